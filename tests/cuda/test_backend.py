# SPDX-License-Identifier: Apache-2.0
"""What the package says about the CUDA backend on a machine that has none, and how it would choose a library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sknet_ops import backends, binary
from sknet_ops.backends import BackendUnavailableError, cuda, cuda_native


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", tmp_path / "libsknet_ops_cuda.so")
    assert cuda.why_not() == f"{cuda.LIBRARY} is missing: it is built with the package where nvcc is found"
    cuda.LIBRARY.write_text("no library")
    assert f"{cuda.LIBRARY} does not load: " in cuda.why_not()


def test_library_of_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that loads, but lacks an entry: `sknet_ops.info` names it instead of failing."""
    shutil.copy(binary.LIBRARY, tmp_path / "libsknet_ops_cuda.so")
    monkeypatch.setattr(cuda, "LIBRARY", tmp_path / "libsknet_ops_cuda.so")
    assert f"{cuda.LIBRARY} is of another version, build it anew or remove it: " in cuda.why_not()


class Device:
    """A library on a machine with a GPU."""

    def __init__(self, path: Path) -> None:
        assert path == cuda.LIBRARY

    def device(self) -> tuple[int, int, int]:
        return 90, 132, 227 << 10


class NoDevice(Device):
    def device(self) -> tuple[int, int, int]:
        raise cuda_native.CudaError("runtime.cu:1: cudaGetDevice(&device): cudaErrorNoDevice")


def test_reasons_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libsknet_ops_cuda.so"
    library.touch()
    monkeypatch.setattr(cuda, "LIBRARY", library)
    monkeypatch.setattr(cuda_native, "Library", NoDevice)
    assert cuda.why_not() == "runtime.cu:1: cudaGetDevice(&device): cudaErrorNoDevice"
    monkeypatch.setattr(cuda_native, "Library", Device)
    assert cuda.why_not() == "MindSpore's device_target is CPU, expected GPU"
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cuda")
    with pytest.raises(BackendUnavailableError, match="backend cuda cannot run here: MindSpore's device_target is CPU"):
        backends.library_path("sk_conv")


def test_library_of_an_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cuda")
    monkeypatch.setattr(cuda, "why_not", lambda: None)
    assert backends.library_path("selective_kernel_grad") == cuda.LIBRARY
    with pytest.raises(BackendUnavailableError, match="conv_bn_act: not an op of backend cuda"):
        backends.library_path("conv_bn_act")
    with pytest.raises(BackendUnavailableError, match="max_pool: not an op of backend cuda: .* pooling are cuDNN's"):
        backends.library_path("max_pool")
    monkeypatch.delenv("SKNET_OPS_BACKEND")
    assert backends.library_path("conv_bn_act").name == "libsknet_ops.so"
