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
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, nn, ops
from mindspore.ops.operations import _custom_ops_utils

import sknet_ops
from sknet_ops.backends import ascend, ascend_plan, composed
from sknet_ops.layers import ConvBnAct, MaxPool2d, SelectiveKernel
from tests import reference_numpy
from tests.ascend.device import EmulatedDevice
from tests.cases import AttentionCase, ConvCase, SkConvCase, error, modes
from tests.mindspore_tools import both_passes, randomise, relative
from tests.ops.op_cells import CELLS, Gradients, check_op

TOLERANCE = 1e-4
CASES = [
    SkConvCase("4 channels a group", 4, 32, (5, 7), 32, groups=8),
    SkConvCase("split strided unit with three branches", 4, 48, (6, 7), 32, (3, 3, 1), (1, 2, 1), 2, split_input=True,
               op="selective_kernel"),
    ConvCase("MindSpore's own convolution", 3, 17, (7, 7), 33, kernel=1, padding=0, residual=True),
    AttentionCase("attention over several shares", 4, 16, (11, 19), rank_4_weights=True),
    AttentionCase("map of several shares", 3, 32, (11, 19), 3, op="sk_select"),
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
    caches = (ascend._operators, ascend._primitive)
    for made in caches:
        made.cache_clear()
    yield
    for made in caches:
        made.cache_clear()


@pytest.mark.parametrize("case, training", modes(CASES))
def test_op(case: Any, training: bool, mode: str, emulated: None, native: ModuleType) -> None:
    check_op(case, training, native, TOLERANCE, TOLERANCE)


def test_maps_of_float16(emulated: None, rng: np.random.Generator) -> None:
    """x and the convolution weights in float16: y comes in float16, gradients in the types of what they are of."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    case = SkConvCase("float16", 4, 32, (5, 4), 32, groups=2, op="selective_kernel")
    tensors = case.tensors(rng)
    want = reference_numpy.selective_kernel(**tensors, **case.attrs(), training=False)["y"]
    cell = CELLS[case.op](tensors, {**case.attrs(), "training": False})

    def half(parameter: Parameter) -> Parameter:
        return Parameter(ms.Tensor(parameter.asnumpy().astype(np.float16)), name=parameter.name)

    cell.x, cell.weight = half(cell.x), ParameterTuple([half(w) for w in cell.weight])
    y, grads = Gradients(cell)(ms.Tensor(np.ones(want.shape, np.float16)))
    assert y.dtype == ms.float16 and [g.dtype for g in grads] == [p.dtype for p in cell.trainable_params()]
    assert error(y.asnumpy(), want) < 5e-3
    assert all(np.isfinite(g.asnumpy()).all() for g in grads)


def test_two_layers_that_share_an_op_and_plain_convolutions(
    mode: str, emulated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network as on the CPU: two equal units, each with kernels and statistics of its own, a convolution, pooling."""

    def net() -> nn.Cell:
        conv = ConvBnAct(nn.Conv2d(16, 16, 1, has_bias=False), nn.BatchNorm2d(16), nn.ReLU)
        units = [SelectiveKernel(16, 16, rd_channels=16, split_input=False) for _ in range(2)]
        cell = nn.SequentialCell([conv, MaxPool2d(3, 1, "same"), *units])
        randomise(cell, 3)
        return cell.set_train()

    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 4, 16, 5, 6))
    got = both_passes(net(), x, dy)
    monkeypatch.delenv("SKNET_OPS_BACKEND")
    want = both_passes(net(), x, dy)
    assert {name: relative(got[name], want[name]) for name in want if relative(got[name], want[name]) > 1e-3} == {}


class ConvInFloat32(composed.ConvBnAct):
    """Between casts: MindSpore's operators for CPU do not take half precision, those for Ascend do."""

    def construct(self, x, weight, gamma, beta, mean, variance):
        x, weight = ops.cast(x, ms.float32), ops.cast(weight, ms.float32)
        y = self.activated(self.normalised(x, weight, gamma, beta, mean, variance))
        return (ops.cast(y, ms.float16),)


def test_mixed_precision_of_a_network(mode: str, emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps in float16; gradients of the parameters in float32, moving statistics updated in place."""
    monkeypatch.setitem(composed.MINDSPORES, "conv_bn_act", lambda residual, **attrs: ConvInFloat32(**attrs))

    def net() -> nn.Cell:
        # Without ReLU, whose gradient is another where rounding changes a sign.
        conv = ConvBnAct(nn.Conv2d(16, 16, 1, has_bias=False), nn.BatchNorm2d(16))
        unit = SelectiveKernel(16, rd_channels=16, split_input=False, activation=None)
        cell = nn.SequentialCell([conv, unit])
        randomise(cell, 3)
        return cell.set_train()

    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 4, 16, 5, 6))
    mixed = sknet_ops.set_map_dtype(net(), ms.float16)
    got = both_passes(mixed, x, dy)
    assert got["y"].dtype == np.float16
    assert {array.dtype for name, array in got.items() if name != "y"} == {np.dtype(np.float32)}
    # In float32 the stand-in has no part.
    monkeypatch.setitem(composed.MINDSPORES, "conv_bn_act", composed.conv_bn_act)
    ascend._primitive.cache_clear()
    want = both_passes(net(), x, dy)
    errors = {name: np.linalg.norm(got[name] - array) / np.linalg.norm(array) for name, array in want.items()}
    assert {name: error for name, error in errors.items() if error > 1e-2} == {}
    before = {p.name: p.asnumpy() for p in net().untrainable_params()}
    assert all(np.abs(got[name] - array).max() > 1e-4 for name, array in before.items())
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cpu")
    with pytest.raises(ValueError, match="set_map_dtype: dtype: got float16, expected float32 with backend cpu"):
        sknet_ops.set_map_dtype(net(), ms.float16)
    with pytest.raises(ValueError, match="net: got ReLU without layers of sknet_ops"):
        sknet_ops.set_map_dtype(nn.ReLU(), ms.float32)


KERNEL = ascend_plan.Kernel("sk_norm_partial", ("z",), (("partial", ((1, 2, 2, 16), "float32")),), (2, 1, 9, 16), (),
                            "float16")  # fmt: skip


def test_mindspore_makes_the_call_that_cann_generates() -> None:
    """MindSpore compiles the call of an aclnn function from the registration: inputs, attributes, outputs."""
    generator = _custom_ops_utils.CustomCodeGenerator()
    info = ascend.registration(KERNEL)
    types = generator.get_api_types_by_reg_info(info)
    assert types == ["aclTensor*", "aclIntArray*", "aclFloatArray*", "aclTensor*", "int64_t*", "aclOpExecutor**"]
    code = generator.generate_callback_by_types("aclnnSkNormPartial", info, types)
    assert "return func(input0, input1, input2, output0, workspace_size, executor)" in code
    attributes = ascend.kernel_attributes(KERNEL)
    assert attributes == ((2, 1, 9, 16), (0.0,))  # what is called with, behind the tensors
    assert info["op_name"] == ascend.aclnn_name(KERNEL.op) == "aclnnSkNormPartial"
    header = _custom_ops_utils.CustomInfoGenerator(info["op_name"]).aclnn_api_file_name
    assert header == "aclnn_sk_norm_partial.h"


def test_the_operator_is_mindspores_custom() -> None:
    ascend.kernel_operator.cache_clear()
    operator = ascend.kernel_operator(KERNEL)
    assert operator.func == "aclnnSkNormPartial" and operator.func_type == "aot"
    assert operator.input_names == ["z", "sizes", "numbers"]
    assert operator.out_shape() == (1, 2, 2, 16) and operator.out_dtype() == ms.float32


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (((2, 2, 32, 3, 3), "float64"), TypeError, "sk_select: got dtype float64, expected float16 or float32"),
        (((2, 2, 32, None, 3), "float32"), ValueError, "expected one without empty or unknown dimensions"),
        (((0, 2, 32, 3, 3), "float32"), ValueError, "expected one without empty or unknown dimensions"),
    ],
    ids=str,
)
def test_what_the_kernels_lack_is_refused(spec: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ascend_plan.forward("sk_select", (), "Ascend910B1", (spec, ((2, 2, 32), "float32")))
    with pytest.raises(ValueError, match="soc_version: got 'Ascend310P3'"):
        ascend_plan.forward("sk_select", (), "Ascend310P3", (spec, ((2, 2, 32), "float32")))


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
