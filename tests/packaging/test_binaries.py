# SPDX-License-Identifier: Apache-2.0
"""What the binaries export, need and contain, down to the machine code."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.packaging.conftest import Wheel

OPS = ("conv_bn_act", "sk_conv", "sk_attention", "sk_select", "selective_kernel", "max_pool")
SYSTEM_LIBRARIES = re.compile(
    r"libstdc\+\+\.so\.6|libgcc_s\.so\.1|libc\.so\.6|libm\.so\.6|libpthread\.so\.0|ld-linux\S*"
)
# An instruction of AVX or later: a VEX or EVEX mnemonic (all begin with v), or a mask register's.
AVX = re.compile(r"^\s*[0-9a-f]+:\s+(v[a-z0-9]+|k(mov|or|and|not|shift|unpck|add|test)[a-z0-9]*)\s")
NOT_AVX = {"verr", "verw"}


def tool(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} (binutils) is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_library_exports_its_interface_only(wheel: Wheel) -> None:
    lines = tool("nm", "--dynamic", "--demangle", "--defined-only", str(wheel.library)).splitlines()
    names = {line.split(maxsplit=2)[2] for line in lines}
    entries = {f"{op}{grad}{part}" for op in OPS for grad in ("", "_grad")
               for part in ("", "Init", "InferShape", "InferType")}  # fmt: skip
    entries |= {f"op_sequence{part}" for part in ("", "Init", "InferShape", "InferType")}
    assert entries <= names
    # Besides them the questions in C, and the C++ interface of ops.h; both carry the project's name.
    others = {name for name in names - entries if not re.search(r"(^|\s)sknet_ops(_|::)", name)}
    assert not others, "exported by accident"


def test_module_exports_its_initialiser_only(wheel: Wheel) -> None:
    lines = tool("nm", "--dynamic", "--defined-only", str(wheel.native)).splitlines()
    ours = {line.split()[2] for line in lines if "sknet_ops" in line or "PyInit" in line}
    assert ours == {"PyInit__native"}


@pytest.mark.parametrize("which, ours, path", [("library", [], []), ("native", ["libsknet_ops.so"], ["$ORIGIN/lib"])])
def test_needs_system_libraries_only(wheel: Wheel, which: str, ours: list[str], path: list[str]) -> None:
    dynamic = tool("readelf", "--dynamic", "--wide", str(getattr(wheel, which)))
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    assert needed
    assert [name for name in needed if not SYSTEM_LIBRARIES.fullmatch(name)] == ours
    assert re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic) == path


@pytest.mark.parametrize("which", ["library", "native"])
def test_no_path_of_the_build_machine(wheel: Wheel, which: str) -> None:
    content = getattr(wheel, which).read_bytes()
    assert [path for path in (ROOT, Path(sys.prefix), Path.home()) if f"{path}/".encode() in content] == []


def avx_functions(binary: Path) -> dict[str, list[str]]:
    """Functions that hold AVX instructions, each with those instructions."""
    found: dict[str, list[str]] = {}
    function = ""
    for line in tool("objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(binary)).splitlines():
        if line.endswith(">:"):
            function = line.partition("<")[2][:-2]
        elif (match := AVX.match(line)) and match[1] not in NOT_AVX:
            found.setdefault(function, []).append(line.partition(":")[2].strip())
    return found


x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="about the instruction sets of x86-64")


@x86_64
def test_old_processors_meet_no_avx(wheel: Wheel) -> None:
    """Outside of the kernels for AVX2, AVX-512 and AMX there is none, in objects and in what was linked of them."""
    baseline = [path for path in wheel.objects if not re.match(r"kernels_(avx\d+|amx)\.", path.name)]
    assert any(path.name.startswith("kernels_scalar.") for path in baseline)
    assert {path.name: list(found) for path in baseline if (found := avx_functions(path))} == {}

    unstripped = avx_functions(wheel.build / "sknet_ops" / "lib" / "libsknet_ops.so")
    assert any("::avx512::" in name for name in unstripped), "the search finds nothing at all"
    assert [name for name in unstripped if not re.search(r"::(avx2|avx512|amx)::", name)] == []


@x86_64
def test_old_processors_meet_no_avx_in_the_numpy_module(wheel: Wheel) -> None:
    assert avx_functions(wheel.native) == {}


@x86_64
def test_avx2_processors_meet_no_avx512(wheel: Wheel) -> None:
    beyond = re.compile(r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])")
    functions = avx_functions(wheel.build / "sknet_ops" / "lib" / "libsknet_ops.so")
    wide = re.compile("::(avx512|amx)::")
    narrow = {name: lines for name, lines in functions.items() if "::avx2::" in name and not wide.search(name)}
    assert narrow
    assert [name for name, lines in narrow.items() if any(beyond.search(line) for line in lines)] == []
