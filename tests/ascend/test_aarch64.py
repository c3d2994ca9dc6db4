# SPDX-License-Identifier: Apache-2.0
"""Ascend servers mostly have aarch64 hosts: the native code cross-compiles, and runs under qemu-user as it should."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ascend import emulator

COMPILER = "aarch64-linux-gnu-g++"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
CSRC = emulator.ROOT / "csrc"
NATIVE = emulator.ROOT / "tests" / "native"
FLAGS = ["-std=c++17", "-O1", f"-I{CSRC}", f"-I{CSRC / 'include'}",
         *(f"-I{CSRC / 'ascend' / folder}" for folder in ("op_host", "op_kernel"))]  # fmt: skip
TILING = r"""
#include <cstdio>
#include "sk_ops.h"

int main() {
  using namespace sknet_ops::ascend;
  const int64_t sizes[] = {8, 2, 3136, 128};
  const Call call{platform("Ascend910B1"), dtype("", "float16"), {sizes, 4, nullptr, 0}};
  const Tiled tiled = find_op("sk_select").tile(call);
  std::printf("blocks %d\n", tiled.blocks);
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER} (Debian: g++-aarch64-linux-gnu)")
    return tmp_path_factory.mktemp("aarch64")


def build(sources: Sequence[Path], folder: Path, name: str) -> Path:
    """A static program, the kernels with the options that CMake gives them."""

    def compiled(source: Path) -> Path:
        output = folder / f"{name}-{source.stem}.o"
        contract = "fast" if source.stem.startswith("kernels_") else "off"
        command = [COMPILER, *FLAGS, f"-ffp-contract={contract}", "-c", str(source), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return output

    with ThreadPoolExecutor(2) as pool:
        objects = [str(path) for path in pool.map(compiled, sources)]
    subprocess.run([COMPILER, "-static", *objects, "-o", str(folder / name), "-pthread"], check=True)
    return folder / name


def run(program: Path, *arguments: str) -> str:
    runner = next((name for name in EMULATORS if shutil.which(name)), None)
    if runner is None:
        pytest.skip(f"compiled; not run: none of {', '.join(EMULATORS)} (Debian: qemu-user)")
    done = subprocess.run([runner, str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kernels_of_both_instruction_sets(folder: Path) -> None:
    """Every op, forward and gradient, training and inference, against the reference."""
    sources = [CSRC / "cpu" / f"kernels_{isa}.cc" for isa in ("neon", "scalar")]  # they take longest
    sources += [NATIVE / "sanitizer_driver.cc", NATIVE / "exact_scratch.cc"]
    sources += [path for path in sorted((CSRC / "cpu").glob("*.cc"))
                if path.stem != "scratch" and not path.stem.startswith("kernels_")]  # fmt: skip
    for part in ("common", "reference"):
        sources += sorted((CSRC / part).glob("*.cc"))
    output = run(build(sources, folder, "native"), "compare")
    assert "scalar agrees in " in output and "neon agrees in " in output, output


def test_tiling(folder: Path) -> None:
    main = folder / "main.cc"
    main.write_text(TILING)
    program = build([main, *sorted((CSRC / "ascend" / "op_host").glob("*.cc"))], folder, "tiling")
    _, blocks = emulator.tiling("sk_select", [8, 2, 3136, 128], (), "float16")
    assert run(program) == f"blocks {blocks}\n"
