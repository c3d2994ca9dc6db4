# SPDX-License-Identifier: Apache-2.0
"""How a MindSpore cell is timed, whoever's operators are in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from benchmarks.harness.cases import Case

MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}
NO_LEARNING = 1e-4  # a rate that keeps random weights finite through any number of steps
_mode_now: int | None = None


def enter(mode: int) -> None:
    """Sets MindSpore's mode where it is another: setting it is no part of a call, and some 0.07 ms with cold caches."""
    global _mode_now
    if mode != _mode_now:
        ms.set_context(mode=mode)
        _mode_now = mode


class Gradients(nn.Cell):
    """(x, dy) -> gradients of x and of all trainable parameters."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net = net
        self.weights = ms.ParameterTuple(net.trainable_params())
        self.gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)

    def construct(self, x: Tensor, dy: Tensor):
        return self.gradient(self.net, self.weights)(x, dy)


def random_tensor(seed: int, shape: tuple[int, ...]) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def variants(case: Case, build: Callable[[Case], nn.Cell]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Graph mode, and for layers PyNative too."""
    modes = ("graph",) if case.kind == "network" else ("graph", "pynative")
    return {mode: lambda mode=mode: _call(case, build, MODES[mode]) for mode in modes}


def _call(case: Case, build: Callable[[Case], nn.Cell], mode: int) -> Callable[[], Any]:
    enter(mode)
    ms.set_seed(0)
    net = build(case)
    inputs = [random_tensor(0, case.input_shape)]
    if case.kind == "conv_bn_act" and case.shape["residual"]:
        inputs.append(random_tensor(2, case.output_shape))
    net.set_train(case.mode != "forward")
    if case.mode == "train":
        net = Gradients(net)
        inputs.append(random_tensor(1, case.output_shape))
    elif case.mode == "step":
        net = training_step(net)
        inputs.append(Tensor(np.arange(case.batch, dtype=np.int32)))

    def call() -> Any:
        enter(mode)  # another variant may have run in between
        return net(*inputs)

    return call


def training_step(net: nn.Cell) -> nn.Cell:
    """The step that `sknet train` runs."""
    from sknet.engine.step import CrossEntropy, TrainStep

    return TrainStep(net, CrossEntropy(), nn.Momentum(net.trainable_params(), NO_LEARNING, 0.9)).set_train()


def to_numpy(result: Any) -> np.ndarray:
    """The first output; waits for it."""
    while isinstance(result, (tuple, list)):
        result = result[0]
    return result.asnumpy()


def peak_kilobytes() -> int:
    """Most memory that this process has had resident."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def memory(build: Callable[[Case], nn.Cell], case: Case, layers: int) -> dict[str, Any]:
    """Peak memory of training in graph mode: a network's step, or a chain of `layers` layers forward and backward. For
    a process of its own.

    Returns `baseline`, before anything is built, and `peak`, in kilobytes, and `seconds` of one call.
    """
    enter(ms.GRAPH_MODE)
    to_numpy(ops.add(Tensor(np.ones(8, np.float32)), 1.0))
    baseline = peak_kilobytes()
    x = random_tensor(0, case.input_shape)
    if case.kind == "network":
        net, second = training_step(build(case).set_train()), Tensor(np.arange(case.batch, dtype=np.int32))
    else:
        net = Gradients(nn.SequentialCell([build(case) for _ in range(layers)]).set_train())
        second = random_tensor(1, case.output_shape)
    seconds = 0.0
    for _ in range(3):
        start = time.perf_counter()
        to_numpy(net(x, second))
        seconds = time.perf_counter() - start
    return {"baseline": baseline, "peak": peak_kilobytes(), "seconds": seconds}
