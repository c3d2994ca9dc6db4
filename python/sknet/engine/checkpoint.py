# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that a kill at any moment cannot spoil, and the sidecar that says what they are.

A file is written under a temporary name, forced to disk, then renamed, then the folder is forced to disk: under its
name there is always a whole checkpoint, the old or the new. NAME.json beside NAME.ckpt holds epoch, step, scores,
class names and recipe, and the checkpoint's size and checksum, which tell whether the two belong together.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from sknet.files import partial_name, publish, write_text


def _fingerprint(path: Path) -> dict[str, int]:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return {"size": path.stat().st_size, "crc32": crc}


def save_checkpoint(net: nn.Cell, path: Path, info: dict[str, Any]) -> None:
    """Write a network's parameters, with MindSpore's own checksum inside, and the sidecar with `info`."""
    partial = partial_name(path)
    try:
        ms.save_checkpoint(net, str(partial), crc_check=True)
        fingerprint = _fingerprint(partial)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    write_text(path.with_suffix(".json"), json.dumps({**info, **fingerprint}, indent=1))


def copy_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint and its sidecar a second name, replacing what has it; a hard link where there are such."""
    for suffix in (".ckpt", ".json"):
        old, new = source.with_suffix(suffix), target.with_suffix(suffix)
        partial = partial_name(new)
        partial.unlink(missing_ok=True)
        try:
            os.link(old, partial)
        except OSError:
            shutil.copyfile(old, partial)
        try:
            publish(partial, new)
        finally:
            # A rename between two links of one file leaves both.
            partial.unlink(missing_ok=True)


def remove_checkpoint(path: Path) -> None:
    for suffix in (".json", ".ckpt"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def read_sidecar(path: str | os.PathLike) -> dict[str, Any] | None:
    """What the sidecar of a checkpoint says, or None if there is none or it belongs to another checkpoint."""
    path = Path(path)
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file() or not path.is_file():
        return None
    try:
        info = json.loads(sidecar.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(info, dict):
        return None
    fingerprint = _fingerprint(path)
    return info if all(info.get(key) == value for key, value in fingerprint.items()) else None


def is_finite(path: Path) -> bool:
    """Whether a checkpoint's parameters, and the validation loss in its sidecar if there is one, are finite numbers."""
    info = read_sidecar(path)
    if info is None or not math.isfinite((info.get("scores") or {}).get("loss", 0.0)):
        return False
    return all(np.isfinite(parameter.asnumpy()).all() for parameter in ms.load_checkpoint(str(path)).values())
