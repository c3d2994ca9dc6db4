# SPDX-License-Identifier: Apache-2.0
"""The MindSpore side of the Ascend backend: what its predicate says here, and the op with its gradient and its in-place
statistics, run by MindSpore on emulated kernels."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, ops

from sknet_ops.backends import ascend
from tests.ascend.device import EmulatedDevice
from tests.ascend.layer_cases import SMALL, Case, error, expected, make


class EmulatedMindSporeDevice(ascend.MindSporeDevice):
    """MindSpore's tensors and rearranging, kernels on the emulated cores."""

    def run(self, op, inputs, outputs, ints, numbers, dtype):
        arrays = {name: None if x is None else x.asnumpy() for name, x in inputs.items()}
        return [Tensor(a) for a in EmulatedDevice(3, self.soc).run(op, arrays, outputs, ints, numbers, dtype)]


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("case", [SMALL[0], SMALL[4]], ids=str)
def test_selective_kernel(case: Case, training: bool, native: ModuleType, rng: np.random.Generator) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    x, dy, w = make(case, "float32", rng)
    want = expected(native, case, training, x, dy, w)
    size = case.size
    attrs = dict(training=training, relu=case.relu, stride=size.stride, padding=size.padding, dilation=size.dilation,
                 groups=size.groups, split_input=size.split_input, eps=1e-5, momentum=0.1, attn_eps=1e-5,
                 attn_momentum=0.1)  # fmt: skip
    cell = ascend.SelectiveKernelCell(EmulatedMindSporeDevice("Ascend910B1"), attrs)
    lists = [[Parameter(Tensor(v), name=f"p{i}_{j}") for j, v in enumerate(a)]
             for i, a in enumerate((w.weight, w.gamma, w.beta, w.moving_mean, w.moving_variance))]  # fmt: skip
    dense = [Parameter(Tensor(v[..., None, None]), name=n) for n, v in (("r", w.fc_reduce), ("s", w.fc_select))]
    attn = [Parameter(Tensor(v), name=f"a{i}")
            for i, v in enumerate((w.attn_gamma, w.attn_beta, w.attn_moving_mean, w.attn_moving_variance))]  # fmt: skip
    inputs = [Tensor(x), *(v for a in lists for v in a), dense[0], *attn, dense[1]]
    cotangent = Tensor(dy)

    def loss(*args):
        out = cell(*args)
        return ops.sum(out[0] * cotangent), out[0]

    grads, y = ms.grad(loss, tuple(range(len(inputs))), has_aux=True)(*inputs)
    y = y[0] if isinstance(y, tuple) else y
    assert error(y.asnumpy(), want["y"]) < 1e-4
    m = size.branches
    grads = [g.asnumpy() for g in grads]
    assert error(grads[0], want["dx"]) < 1e-4
    for i, name in enumerate(("dweight", "dgamma", "dbeta")):
        assert error(grads[1 + i * m : 1 + (i + 1) * m], want[name]) < 1e-4, name
    assert all(not g.any() for g in grads[1 + 3 * m : 1 + 5 * m])
    reduce, gamma, beta, *moving, select = grads[1 + 5 * m :]
    assert error(reduce[..., 0, 0], want["dfc_reduce"]) < 1e-4
    assert error(gamma, want["dattn_gamma"]) < 1e-4
    assert error(beta, want["dattn_beta"]) < 1e-4
    assert error(select[..., 0, 0], want["dfc_select"]) < 1e-4
    assert all(not g.any() for g in moving)
    if training:
        for i, name in ((3, "moving_mean"), (4, "moving_variance")):
            assert error([p.asnumpy() for p in lists[i]], want[name]) < 1e-4, name
        assert error(attn[2].asnumpy(), want["attn_moving_mean"]) < 1e-4
        assert error(attn[3].asnumpy(), want["attn_moving_variance"]) < 1e-4


def test_a_dtype_that_the_kernels_lack_is_refused(rng: np.random.Generator) -> None:
    attrs = dict(training=False, relu=True, stride=1, padding=(1,), dilation=(1,), groups=1, split_input=False,
                 eps=1e-5, momentum=0.1, attn_eps=1e-5, attn_momentum=0.1)  # fmt: skip
    cell = ascend.SelectiveKernelCell(EmulatedMindSporeDevice("Ascend910B1"), attrs)
    vector, weight = Tensor(np.ones(16)), Tensor(np.ones((16, 16, 3, 3)))
    dense = Tensor(np.ones((8, 16))), Tensor(np.ones((16, 8)))
    with pytest.raises(TypeError, match="x: got dtype Float64, expected float16 or float32"):
        cell(Tensor(np.ones((1, 16, 4, 4))), weight, *[vector] * 4, dense[0], *[vector] * 4, dense[1])


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


def test_other_ops_are_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match="backend ascend: sk_conv is not made of Ascend C kernels"):
        ascend.primitive("sk_conv", {})
