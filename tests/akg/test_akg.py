# SPDX-License-Identifier: Apache-2.0
"""The AKG kernels, compiled and run for real on the CPU by MindSpore's own AKG, against the C++ reference."""

from __future__ import annotations

from types import ModuleType

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from sknet_ops import backends, functional
from sknet_ops.backends import akg

TOLERANCE = 1e-4  # in units of the largest value
SHAPES = [(2, 2, 8, 5, 7), (3, 1, 5, 1, 1), (2, 3, 4, 2, 9)]


@pytest.fixture(autouse=True)
def available() -> None:
    reason = akg.why_not()
    if reason is not None:
        pytest.skip(reason)


def close(got: Tensor, want: np.ndarray) -> None:
    assert got.shape == want.shape
    assert np.abs(got.asnumpy() - want).max() <= TOLERANCE * max(np.abs(want).max(), 1e-30)


class Select(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.op = akg.select()

    def construct(self, u, a):
        return self.op(u, a)


class NormActPool(nn.Cell):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.norm_act = akg.norm_act(training)

    def construct(self, z, mean, inv_std, gamma, beta):
        u = self.norm_act(z, mean, inv_std, gamma, beta)
        return u, akg.pool(u)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_select(shape: tuple[int, ...], mode: int, native: ModuleType, rng: np.random.Generator) -> None:
    n, m, c, h, w = shape
    u, a = rng.normal(size=shape), rng.uniform(size=(n, m, c))
    dy = rng.normal(size=(n, c, h, w))
    want = native.sk_select(u, a, backend="reference")["y"]
    grads = native.sk_select_grad(dy, u, a, backend="reference")
    net = Select()
    args = [Tensor(v.astype(np.float32)) for v in (u.reshape(n, m, c, h * w), a)]
    close(net(*args), want.reshape(n, c, h * w))
    weight = Tensor(dy.reshape(n, c, h * w).astype(np.float32))

    def loss(u, a):
        return ops.sum(net(u, a) * weight)

    du, da = ms.grad(loss, (0, 1))(*args)
    close(du, grads["du"].reshape(n, m, c, h * w))
    close(da, grads["dattention"])


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_norm_act_pool(
    shape: tuple[int, ...], training: bool, mode: int, native: ModuleType, rng: np.random.Generator
) -> None:
    """The reference's sk_conv with a 1x1 identity is the normalisation alone: z is x."""
    n, m, c, h, w = shape
    z = rng.normal(size=shape)
    gamma, beta, mean = rng.normal(size=(3, m, c))
    variance = rng.uniform(0.5, 2, (m, c))
    if training:
        mean, variance = z.mean((0, 3, 4)), z.var((0, 3, 4))
    inv_std = 1 / np.sqrt(variance + 1e-5)
    du, dsums = rng.normal(size=shape), rng.normal(size=(n, c))
    net = NormActPool(training)
    args = [Tensor(v.astype(np.float32)) for v in (z.reshape(n, m, c, h * w), mean, inv_std, gamma, beta)]
    weights = [Tensor(v.astype(np.float32)) for v in (du.reshape(n, m, c, h * w), dsums)]

    def loss(*inputs):
        u, sums = net(*inputs)
        return ops.sum(u * weights[0]) + ops.sum(sums * weights[1])

    u, sums = net(*args)
    dz, dgamma, dbeta = ms.grad(loss, (0, 3, 4))(*args)
    identity = np.eye(c).reshape(c, c, 1, 1)
    for i in range(m):
        x = np.ascontiguousarray(z[:, i])
        attrs = dict(relu=True, training=training, backend="reference")
        vectors = gamma[i].copy(), beta[i].copy(), mean[i].copy(), variance[i].copy()
        forward = native.conv_bn_act(x, identity, *vectors, **attrs)
        saved = {k: forward[k] for k in ("z", "mean", "inv_std") if k in forward}
        through = np.ascontiguousarray(du[:, i] + dsums[..., None, None])  # sums pass theirs to every position
        grads = native.conv_bn_act_grad(through, x, identity, *vectors, forward["y"], **saved, **attrs)
        close(u[:, i], forward["y"].reshape(n, c, h * w))
        close(dz[:, i], grads["dx"].reshape(n, c, h * w))
        close(dgamma[i], grads["dgamma"])
        close(dbeta[i], grads["dbeta"])
    close(sums, u.asnumpy().astype(float).sum((1, 3)))


def test_backend_is_selectable(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    monkeypatch.setenv("SKNET_OPS_BACKEND", "akg")
    assert backends.active_backend() == "akg"
    u, a = (Tensor(rng.normal(size=s).astype(np.float32)) for s in ((2, 2, 8, 5, 7), (2, 2, 8)))
    want = np.einsum("nmchw,nmc->nchw", u.asnumpy(), a.asnumpy())
    close(functional.sk_select(u, a), want)
    du, da = ms.grad(lambda u, a: ops.sum(functional.sk_select(u, a)), (0, 1))(u, a)
    close(du, np.broadcast_to(a.asnumpy()[..., None, None], u.shape))
    close(da, u.asnumpy().sum((3, 4)))


def test_other_ops_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    monkeypatch.setenv("SKNET_OPS_BACKEND", "akg")
    x = Tensor(rng.normal(size=(1, 2, 4, 4)).astype(np.float32))
    weight = Tensor(rng.normal(size=(2, 2, 1, 1)).astype(np.float32))
    vector = Tensor(np.ones(2, np.float32))
    with pytest.raises(NotImplementedError, match="backend akg: conv_bn_act has no AKG kernel"):
        functional.conv_bn_act(x, weight, vector, vector, vector, vector, relu=False, stride=3)
