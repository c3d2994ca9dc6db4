# SPDX-License-Identifier: Apache-2.0
"""The MindSpore side of the Ascend backend: what its predicate says here, and the op with its gradient and its in-place
statistics, run by MindSpore on emulated kernels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
import pytest
from mindspore import ops

from sknet_ops.backends import ascend, ascend_plan
from tests.ascend.device import EmulatedDevice
from tests.cases import AttentionCase, SkConvCase, modes
from tests.mindspore_tools import mode  # noqa: F401  a fixture
from tests.ops.op_cells import check_op


TOLERANCE = 1e-4
CASES = [
    SkConvCase("4 channels a group", 4, 32, (5, 7), 32, groups=8),
    SkConvCase("split strided unit with three branches", 4, 48, (6, 7), 32, (3, 3, 1), (1, 2, 1), 2, split_input=True,
               op="selective_kernel"),
    SkConvCase("8 channels a group", 4, 32, (4, 5), 32, groups=4, op="selective_kernel"),
    AttentionCase("convolution weights", 5, 48, (4, 3), 2, 9, rank_4_weights=True),
    AttentionCase("map of several shares", 3, 32, (11, 19), 3, op="sk_select"),
    AttentionCase("attention over several shares", 4, 16, (11, 19)),
]  # fmt: skip


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Backend ascend with each kernel's operator replaced by the emulated cores: all else is as on an NPU."""

    @functools.cache
    def operator(kernel: ascend_plan.Kernel) -> ops.Custom:
        shapes, types = ascend._outputs(kernel)
        names = kernel.input_names

        def run(*arrays):
            inputs = dict(zip(names, arrays, strict=True))
            device = EmulatedDevice(3, "Ascend910B1")
            out = device.run(kernel.op, inputs, dict(kernel.outputs), kernel.ints, kernel.numbers, kernel.dtype)
            return out[0] if len(out) == 1 else tuple(out)

        kind = inspect.Parameter.POSITIONAL_ONLY  # MindSpore counts the arguments
        run.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        return ops.Custom(run, lambda *_: shapes, lambda *_: types, func_type="pyfunc")

    monkeypatch.setenv("SKNET_OPS_BACKEND", "ascend")
    monkeypatch.setenv("SKNET_OPS_SOC", "Ascend910B1")
    monkeypatch.setattr(ascend, "why_not", lambda: None)
    monkeypatch.setattr(ascend, "kernel_operator", operator)
    monkeypatch.setattr(ascend, "kernel_attributes", lambda kernel: ())  # inside the stand-in
    ascend._operators.cache_clear()
    yield
    ascend._operators.cache_clear()


@pytest.mark.parametrize("case, training", modes(CASES))
def test_op(case: Any, training: bool, mode: str, emulated: None, native: ModuleType) -> None:
    check_op(case, training, native, TOLERANCE, TOLERANCE)


def test_the_predicate_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "device_target is CPU, expected Ascend" in ascend.why_not()
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend")
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    assert "ASCEND_HOME_PATH is unset" in ascend.why_not()
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "nowhere"))
    assert "which is no folder" in ascend.why_not()
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    monkeypatch.setattr(ascend, "opp_path", lambda: tmp_path)
    assert "build it with `make ascend`" in ascend.why_not()
    (tmp_path / ascend.VENDOR).mkdir(parents=True)
    monkeypatch.setenv("SKNET_OPS_SOC", "Ascend310P3")
    assert "soc_version: got 'Ascend310P3', expected one of Ascend910B1" in ascend.why_not()
    monkeypatch.setenv("SKNET_OPS_SOC", "Ascend910B3")
    assert ascend.why_not() is None


def test_the_package_comes_first_in_the_operator_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_CUSTOM_OPP_PATH", "/somewhere/else")
    ascend.set_up_opp_path()
    ascend.set_up_opp_path()
    assert ascend.os.environ["ASCEND_CUSTOM_OPP_PATH"] == f"{ascend.opp_path() / ascend.VENDOR}:/somewhere/else"


