# SPDX-License-Identifier: Apache-2.0
"""The short cut that PhaseOnChange takes between calls, and that it is none where a graph is compiled."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from sknet_ops.layers import PhaseOnChange

rng = np.random.default_rng(20)


class Inner(nn.Cell):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(x) + 1


class Outer(PhaseOnChange, nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def construct(self, x):
        return self.inner(x) * 2


@pytest.fixture(autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)


def check(net: nn.Cell, expected, *shape: int) -> None:
    x = rng.integers(-4, 4, shape).astype(np.float32)
    np.testing.assert_array_equal(net(Tensor(x)).asnumpy(), expected(x))


def test_children_hear_a_new_phase_and_only_that():
    net = Outer()
    check(net, lambda x: 2 * (np.maximum(x, 0) + 1), 2, 3)
    first = net.compile_phase
    assert first and {cell.compile_phase for _, cell in net.cells_and_names()} == {first}
    net.inner.relu.compile_phase = "untouched"
    check(net, lambda x: 2 * (np.maximum(x, 0) + 1), 2, 3)
    assert net.inner.relu.compile_phase == "untouched"
    check(net, lambda x: 2 * (np.maximum(x, 0) + 1), 5, 3)  # a new shape, a new graph
    assert net.compile_phase != first
    assert {cell.compile_phase for _, cell in net.cells_and_names()} == {net.compile_phase}


def test_a_child_that_is_called_alone_in_between():
    net = Outer()
    for shape in ((2, 3), (4, 3), (2, 3)):
        check(net, lambda x: 2 * (np.maximum(x, 0) + 1), *shape)
        check(net.inner, lambda x: np.maximum(x, 0) + 1, *shape)
    check(net, lambda x: 2 * (np.maximum(x, 0) + 1), 6, 3)


def test_phases_must_be_strings():
    with pytest.raises(TypeError, match="compile_phase"):
        Outer().compile_phase = 3
