# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test folder shares."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import sys
import sysconfig
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
# Settings that change what a test runs; the line that reproduces a failure repeats those that are set.
ENVIRONMENT = ("SKNET_OPS_ISA", "SKNET_OPS_BACKEND", "SKNET_OPS_SHARED", "SKNET_OPS_NATIVE", "ONEDNN_MAX_CPU_ISA",
               "OMP_NUM_THREADS")  # fmt: skip
HAS_PYTHON_HEADERS = Path(sysconfig.get_path("include"), "Python.h").exists()
ISAS = ("scalar", "neon") if platform.machine() in ("aarch64", "arm64") else ("scalar", "avx2", "avx512", "amx")


def seed_of(name: str) -> int:
    """The same seed for the same name, on every machine and in every run."""
    return zlib.crc32(name.encode())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name and parameters only."""
    return np.random.default_rng(seed_of(request.node.name))


@pytest.fixture(autouse=True)
def _mindspore(request: pytest.FixtureRequest) -> None:
    """What MindSpore draws, initial weights above all, depends on the test's name and parameters only."""
    if "mindspore" in sys.modules:
        _first_softmax()
        sys.modules["mindspore"].set_seed(seed_of(request.node.name))


@functools.cache
def _first_softmax() -> None:
    """So that no test hangs on the order: if the first softmax of a rank that a process differentiates in PyNative is
    over one value, as in MindCV's layer with one branch, MindSpore 2.10 gives wrong gradients for all later ones."""
    import mindspore as ms

    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        for rank in (3, 5):
            x = ms.ops.reshape(ms.Tensor([1.0, 2.0]), (1, 2) + (1,) * (rank - 2))
            ms.ops.grad(lambda x: ms.ops.softmax(x, 1).max())(x)
    finally:
        ms.set_context(mode=mode)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the outside results and data sets; skips where a clone comes without it."""
    path = Path(os.environ.get("SKNET_OPS_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no folder {path}: SKNET_OPS_SHARED names the one with the golden results and data")
    return path


def _find_native() -> Path:
    """SKNET_OPS_NATIVE, a folder, is for testing another build than the installed one."""
    if "SKNET_OPS_NATIVE" in os.environ:
        folders = [os.environ["SKNET_OPS_NATIVE"]]
    else:
        package = importlib.util.find_spec("sknet_ops")
        folders = list(package.submodule_search_locations or ()) if package else []
    name = (
        f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"  # an editable install for another Python may lie beside it
    )
    found = [Path(folder, name) for folder in folders if Path(folder, name).is_file()]
    if not found and not HAS_PYTHON_HEADERS:
        pytest.skip("no sknet_ops._native: this Python has no Python.h to build it with (python3-dev)")
    if not found:
        pytest.fail(f"no {name} in {folders or 'the import path'}: run `pip install -e .` first")
    return found[0]


@pytest.fixture(scope="session")
def native() -> ModuleType:
    """sknet_ops._native without MindSpore: `import sknet_ops` would load that, so the binary is loaded directly.

    Fresh outputs are poisoned, so that a value that no kernel wrote is seen.
    """
    name = "sknet_ops._native"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _find_native())
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    sys.modules[name].poison_outputs(True)
    return sys.modules[name]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, native: ModuleType) -> str:
    """Each instruction set of this architecture; skips, with the reason, what cannot run here."""
    reason = native.cpu_isas()[request.param]
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Adds the line that reproduces a failure to its report."""
    report = (yield).get_result()
    if report.failed:
        settings = "".join(f"{name}={shlex.quote(os.environ[name])} " for name in ENVIRONMENT if name in os.environ)
        report.sections.append(("reproduce", f"{settings}python -m pytest {shlex.quote(item.nodeid)}"))
