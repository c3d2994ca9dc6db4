# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the CUDA tests."""

from __future__ import annotations

import pytest

from tests.cuda import build
from tests.cuda.emulated import Emulated

# A device that makes a block walk over many tiles, and one like an H100, where each has a tile of its own.
DEVICES = {"one-small-multiprocessor": "75 1 65536", "h100": "90 132 232448"}


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Numbers that the launches are planned for."""
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", DEVICES[request.param])
    return request.param


@pytest.fixture(scope="session")
def emulated() -> Emulated:
    """The kernels with float32 maps, run on the CPU."""
    return Emulated()


@pytest.fixture(scope="session")
def compiled() -> None:
    """Skips where there is no CUDA compiler."""
    if build.nvcc() is None:
        pytest.skip("no nvcc: the kernels are not compiled for a GPU here")
    build.library("sknet_ops_cuda")
