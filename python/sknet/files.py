# SPDX-License-Identifier: Apache-2.0
"""Files that a kill at any moment leaves whole: written under another name, forced to disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name; afterwards it is on disk."""
    _sync(partial)
    os.replace(partial, path)
    _sync(path.parent)


def partial_name(path: Path) -> Path:
    """Where to write a file before it gets its name."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    partial = partial_name(path)
    try:
        partial.write_text(text, encoding="utf-8")
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)
