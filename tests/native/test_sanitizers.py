# SPDX-License-Identifier: Apache-2.0
"""Reference and CPU kernels under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ISAS, ROOT

HERE = Path(__file__).parent
FLAGS = [
    "-std=c++17",
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    *(["-DSKNET_HAS_AMX"] if "amx" in ISAS else []),
]
# As cmake/sources.cmake compiles kernels_<isa>.cc.
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
ISA_FLAGS = {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "amx": AVX512}


def _compiler(folder: Path) -> str:
    """A compiler that can build and run with the sanitizers; skips, with its message, where there is none."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler: neither $CXX nor g++ nor c++")
    probe = folder / "probe.cc"
    probe.write_text("int main() { return 0; }\n")
    built = subprocess.run([compiler, *FLAGS, probe, "-o", folder / "probe"], capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"{compiler} has no sanitizer runtime: {built.stderr.strip()[-300:]}")
    ran = subprocess.run([folder / "probe"], capture_output=True, text=True)
    if ran.returncode != 0:
        pytest.skip(f"the sanitizers do not run here: {ran.stderr.strip()[-300:]}")
    return compiler


def _sources() -> list[Path]:
    """All of the reference and the CPU backend; its scratch memory is replaced by one of exact sizes."""
    csrc = ROOT / "csrc"
    foreign = {f"kernels_{isa}" for isa in ("avx2", "avx512", "amx", "neon") if isa not in ISAS}
    cpu = [path for path in csrc.glob("cpu/*.cc") if path.stem not in {"scratch", *foreign}]
    # The kernels first: they take longest.
    cpu.sort(key=lambda path: not path.stem.startswith("kernels_"))
    return [*cpu, *csrc.glob("reference/*.cc"), HERE / "sanitizer_driver.cc", HERE / "exact_scratch.cc"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sanitizers")
    compiler = _compiler(folder)

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        isa = ISA_FLAGS.get(source.stem.removeprefix("kernels_"), [])
        include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]
        built = subprocess.run(
            [compiler, *FLAGS, *isa, *include, "-c", source, "-o", target], capture_output=True, text=True
        )
        assert built.returncode == 0, built.stderr[-4000:]
        return target

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        objects = list(pool.map(compile_one, _sources()))
    program = folder / "driver"
    subprocess.run([compiler, *FLAGS, *objects, "-pthread", "-o", program], check=True)
    return program


def test_clean(driver: Path) -> None:
    done = subprocess.run([driver], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    assert {"clean: reference float", "clean: reference double", "clean: scalar"} <= set(done.stdout.splitlines())


def test_sanitizer_bites(driver: Path) -> None:
    """The same program on a read past the end: else a build without the sanitizer would pass."""
    done = subprocess.run([driver, "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert re.search("heap-buffer-overflow", done.stderr)
