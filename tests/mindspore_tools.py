# SPDX-License-Identifier: Apache-2.0
"""What the tests that go through MindSpore share."""

from __future__ import annotations

import os

# MindSpore's own convolutions, which parity is measured against, are some 40 times slower on AVX-512 machines without.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

from collections.abc import Iterator  # noqa: E402

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from mindspore import Tensor, nn, ops  # noqa: E402

MODES = {"pynative": ms.PYNATIVE_MODE, "graph": ms.GRAPH_MODE}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each execution mode in turn."""
    ms.set_context(mode=MODES[request.param])
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture
def graph_mode() -> Iterator[None]:
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture
def pynative_mode() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)


class WithGradients(nn.Cell):
    """(inputs..., cotangent) -> (output, gradient of the first input, gradients of the trainable parameters)."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)  # keeps the parameters' names
        self.net = net
        self.backward = ops.value_and_grad(self.weighted, 0, net.trainable_params(), has_aux=True)

    def weighted(self, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        y = self.net(x)
        return (y * cotangent).sum(), y

    def construct(self, x: Tensor, cotangent: Tensor):
        (_, y), (dx, grads) = self.backward(x, cotangent)
        return y, dx, grads


def tensor(array: np.ndarray) -> Tensor:
    return Tensor(np.ascontiguousarray(array, np.float32))


def both_passes(net: nn.Cell, x: np.ndarray, cotangent: np.ndarray) -> dict[str, np.ndarray]:
    """Output, all gradients (``grad.x`` and ``grad.<parameter>``) and the parameters that are not trained, after one
    step."""
    y, dx, grads = WithGradients(net)(tensor(x), tensor(cotangent))
    found = {"y": y.asnumpy(), "grad.x": dx.asnumpy()}
    found |= {f"grad.{p.name}": g.asnumpy() for p, g in zip(net.trainable_params(), grads, strict=True)}
    return found | {p.name: p.asnumpy() for p in net.untrainable_params()}


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest value; NaN counts as infinite."""
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    difference = np.abs(got.astype(np.float64) - expected).max()
    return float("inf") if np.isnan(difference) else float(difference / max(np.abs(expected).max(), 1e-300))


def randomise(net: nn.Cell, seed: int) -> None:
    """Weights that hide nothing: no zero biases, no unit scales."""
    rng = np.random.default_rng(seed)
    for parameter in net.get_parameters():
        shape = parameter.shape
        if parameter.name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        parameter.set_data(tensor(value))
