# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the packaging tests: a wheel of this checkout, and the objects that it was linked from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import HAS_PYTHON_HEADERS, ROOT


@dataclass(frozen=True)
class Wheel:
    """A built wheel, its files unpacked, and the build tree with the unstripped binaries."""

    path: Path
    unpacked: Path
    build: Path

    @property
    def library(self) -> Path:
        return self.unpacked / "sknet_ops" / "lib" / "libsknet_ops.so"

    @property
    def native(self) -> Path:
        if not HAS_PYTHON_HEADERS:
            pytest.skip("no sknet_ops._native: this Python has no Python.h to build it with (python3-dev)")
        (path,) = (self.unpacked / "sknet_ops").glob("_native*.so")
        return path

    @property
    def objects(self) -> list[Path]:
        return sorted((self.build / "CMakeFiles" / "sknet_ops.dir" / "csrc").rglob("*.o"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Built with this environment's tools, from the objects of the last build where they are up to date."""
    for stale in (ROOT / "build").glob("lib.*"):  # would bring deleted modules back
        shutil.rmtree(stale)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation",
               "--wheel-dir", str(folder), str(ROOT)]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout}\n{run.stderr}"
    (path,) = folder.glob("*.whl")
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    return Wheel(path, unpacked, ROOT / "build" / f"cmake-{sys.implementation.cache_tag}")
