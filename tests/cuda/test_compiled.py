# SPDX-License-Identifier: Apache-2.0
"""The library for GPUs as the CUDA compiler makes it: what each kernel takes, what the file holds. Runs no kernel."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cuda import build
from tests.cuda.emulated import cuda_native

pytestmark = pytest.mark.usefixtures("compiled")

TABLE = Path(__file__).with_name("resources.json")
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
# Two blocks of 256 threads on a multiprocessor of 65536 registers.
MOST_REGISTERS = 128
Resources = dict[str, dict[str, dict[str, int]]]


def compiler_release() -> str:
    text = subprocess.run([build.nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release (\d+\.\d+)", text).group(1)


def demangled(names: list[str]) -> list[str]:
    lines = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return [short(line) for line in lines.splitlines()]


def short(name: str) -> str:
    """void sknet_ops::cuda::conv_kernel<float, ...Simt<8, 2>, true>(...) -> conv_kernel<float, Simt<8, 2>, true>"""
    name = re.sub(r"sknet_ops::cuda::|\(anonymous namespace\)::|^void |_GLOBAL__N__\w+::|\([^()]*Args\)$", "", name)
    return name.replace("> >", ">>")


def parse(reports: dict[str, str]) -> Resources:
    """kernel -> architecture -> registers, shared memory, stack and spills in bytes."""
    found: list[tuple[str, str, dict[str, int]]] = []
    for report in reports.values():
        for chunk in report.split("Compiling entry function ")[1:]:
            name, architecture = re.match(r"'(\S+)' for '(\w+)'", chunk).groups()
            if "Used " not in chunk:
                continue

            def number(pattern: str, text: str = chunk) -> int:
                match = re.search(pattern, text)
                return int(match.group(1)) if match else 0

            found.append((name, architecture, {
                "registers": number(r"Used (\d+) registers"),
                "shared": number(r"(\d+) bytes smem"),
                "stack": number(r"(\d+) bytes stack frame"),
                "spills": number(r"(\d+) bytes spill stores"),
            }))  # fmt: skip
    table: Resources = {}
    for name, (_, architecture, resources) in zip(demangled([f[0] for f in found]), found, strict=True):
        table.setdefault(name, {})[architecture] = resources
    return {name: dict(sorted(table[name].items())) for name in sorted(table)}


@pytest.fixture(scope="module")
def resources(compiled: None) -> Resources:
    return parse(build.reports())


def test_every_kernel_for_every_architecture(resources: Resources) -> None:
    expected = json.loads(TABLE.read_text())["kernels"]
    assert set(resources) == set(expected)
    assert {tuple(by) for by in resources.values()} == {ARCHITECTURES}


def test_limits(resources: Resources) -> None:
    """With any compiler: no launch may fail for registers, and what is spilled is a few words."""
    for name, by in resources.items():
        for architecture, used in by.items():
            assert used["registers"] <= MOST_REGISTERS, (name, architecture)
            assert used["spills"] <= 64, (name, architecture, used)
            assert used["shared"] <= 1024, (name, architecture, used)


def test_convolutions_spill_nothing(resources: Resources) -> None:
    """Where the time goes. With the compiler of the table; another may allot registers otherwise."""
    if compiler_release() != (known := json.loads(TABLE.read_text())["nvcc"]):
        pytest.skip(f"the table is for nvcc {known}, here is {compiler_release()}")
    spilled = {(name, architecture): used["spills"]
               for name, by in resources.items() if name.startswith(("conv_kernel", "wgrad_kernel"))
               for architecture, used in by.items() if used["spills"]}  # fmt: skip
    assert not spilled


def test_resources_as_committed(resources: Resources) -> None:
    """A change shows in review. After one that is meant: python -m tests.cuda.test_compiled"""
    expected = json.loads(TABLE.read_text())
    if compiler_release() != expected["nvcc"]:
        pytest.skip(f"the table is for nvcc {expected['nvcc']}, here is {compiler_release()}")
    changed = {
        (name, architecture): (used, expected["kernels"][name][architecture])
        for name, by in resources.items()
        for architecture, used in by.items()
        if used != expected["kernels"][name][architecture]
    }
    assert not changed


def test_entries_for_mindspore() -> None:
    """What ops.Custom(aot) looks up, and no second CUDA runtime to bring along."""
    library = build.library("sknet_ops_cuda")
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    defined = {line.split()[-1] for line in symbols.splitlines()}
    for op in cuda_native().OPS:
        assert {op, op + "Init", op + "InferShape", op + "InferType"} <= defined
    assert not {name for name in defined if name.startswith("cuda")}, "the CUDA runtime's symbols leak out"
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    assert "libcudart" not in needed


def test_code_for_what_comes_after() -> None:
    """Machine code for three architectures, and PTX of the last for those that do not exist yet."""
    asked = re.findall(
        r"--generate-code=arch=compute_\d+,code=\[([\w,]+)\]", (build.folder() / "build.ninja").read_text()
    )
    assert {code for codes in asked for code in codes.split(",")} == {*ARCHITECTURES, "compute_90"}


def test_without_a_gpu_the_error_says_so() -> None:
    module = cuda_native()
    library = module.Library(build.library("sknet_ops_cuda"))
    try:
        capability, *_ = library.device()
    except module.CudaError as error:
        assert re.search(r"sknet_ops_cuda_device: .*runtime\.cu:\d+: cudaGetDevice\(&device\): cudaError", str(error))
        library = module.Library(
            build.library("sknet_ops_cuda"), lambda shape, dtype: module.Tensor(256, shape, dtype, None)
        )
        on_host = {"u": np.zeros((1, 2, 3, 4, 5), np.float32), "attention": np.zeros((1, 2, 3), np.float32)}
        with pytest.raises(ValueError, match="^sk_select: u: got a tensor on cpu, expected one on cuda$"):
            library.sk_select(**on_host)
        unknown = {name: module.Tensor(256, array.shape, "float32", None) for name, array in on_host.items()}
        with pytest.raises(
            module.CudaError, match=r"^sk_select: .*runtime\.cu:\d+: cudaGetDevice\(&device\): cudaError"
        ):
            library.sk_select(**unknown)
    else:
        assert capability >= 75


if __name__ == "__main__":
    TABLE.write_text(json.dumps({"nvcc": compiler_release(), "kernels": parse(build.reports())}, indent=1) + "\n")
