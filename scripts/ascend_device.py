# SPDX-License-Identifier: Apache-2.0
"""For the first person with an NPU: the SK layers of SKNet-50 on the device, against the same layers composed of
MindSpore's own cells: errors of output and gradients, and times.

    python scripts/ascend_device.py [--dtype float16] [--batch 32] [--mode graph]

One line a layer; the exit status is 1 if an error is larger than it may be. `--target CPU --backend cpu` tries the
script itself where there is no NPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import sknet_ops

# Channels, size of the map, stride; 32 groups, 3x3 with dilation 1 and 2.
LAYERS = ((128, 56, 1), (256, 56, 2), (256, 28, 1), (512, 28, 2), (512, 14, 1), (1024, 14, 2), (1024, 7, 1))
# Largest difference in units of the largest value: output, gradients.
ALLOWED = {"float32": (1e-4, 1e-3), "float16": (1e-2, 5e-2)}


class Composed(nn.Cell):
    """The layer as a graph of MindSpore's cells, which are those that hold its parameters."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.first, self.second = (path.features for path in layer.paths)
        self.attn = layer.attn

    def construct(self, x):
        u = ops.stack((self.first(x), self.second(x)), 1)
        pooled = u.sum(1).mean((2, 3), True)
        logits = self.attn.fc_select(self.attn.act(self.attn.bn(self.attn.fc_reduce(pooled))))
        attention = ops.softmax(logits.reshape((x.shape[0], 2, -1, 1, 1)), 1)
        return (u * attention).sum(1)


def stepper(net: nn.Cell, layer: nn.Cell, dy: Tensor) -> Callable:
    """x -> output, gradients of x and of the parameters; one compiled function in graph mode."""

    def weighted(x):
        y = net(x)
        return (y * dy).sum(), y

    backward = ops.value_and_grad(weighted, 0, list(layer.trainable_params()), has_aux=True)
    step = ms.jit(backward) if ms.get_context("mode") == ms.GRAPH_MODE else backward

    def run(x: Tensor) -> list[np.ndarray]:
        (_, y), (dx, grads) = step(x)
        return [v.asnumpy().astype(np.float64) for v in (y, dx, *grads)]

    return run


def error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def median_ms(run: Callable, x: Tensor, repeats: int) -> float:
    run(x)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def settle(layer: nn.Cell, rng: np.random.Generator) -> None:
    """Weights that, on maps about +1 and -1 of random sign, keep every ReLU's input away from 0.

    There one bit decides whether a gradient passes, so that two right results may differ by any amount. The
    convolutions mostly copy their own channel, so that the norms' outputs lie about +1 and -1; the one norm of the
    attention, over a batch of unknown size, gets offsets beyond what that leaves.
    """
    for path in layer.paths:
        weight = path.features[0].weight
        out, a_group, *kernel = weight.shape
        values = rng.standard_normal(weight.shape) / (a_group * np.prod(kernel)) ** 0.5
        values[np.arange(out), np.arange(out) % a_group, kernel[0] // 2, kernel[1] // 2] += 10
        weight.set_data(Tensor(values.astype(np.float32)))
    for name, parameter in layer.attn.parameters_and_names():
        if name.startswith("fc"):
            values = rng.standard_normal(parameter.shape) / parameter.shape[1] ** 0.5
            parameter.set_data(Tensor(values.astype(np.float32)))
    offsets = layer.attn.bn.beta
    offsets.set_data(Tensor(np.resize([8.0, -8.0], offsets.shape).astype(np.float32)))


def check_layer(channels: int, size: int, stride: int, arguments: argparse.Namespace) -> bool:
    rng = np.random.default_rng(channels + size)
    layer = sknet_ops.SelectiveKernel(channels, channels, stride=stride, groups=32, split_input=False, rd_divisor=32)
    layer.set_train()
    settle(layer, rng)
    start = {p.name: p.asnumpy() for p in layer.get_parameters()}
    out = (size - 1) // stride + 1
    x, dy = (rng.standard_normal((arguments.batch, channels, s, s)) for s in (size, out))
    x = rng.choice([-1.0, 1.0], x.shape) * (1 + x / 10)
    x, dy = (Tensor(v.astype(arguments.dtype)) for v in (x, dy))

    def results(net: nn.Cell, x: Tensor, dy: Tensor) -> tuple[list[np.ndarray], float]:
        run = stepper(net, layer, dy)
        for p in layer.get_parameters():
            p.set_data(Tensor(start[p.name]))
        values = run(x)
        values += [p.asnumpy().astype(np.float64) for p in layer.untrainable_params()]
        return values, median_ms(run, x, arguments.repeats)

    got, ours = results(layer, x, dy)
    want, composed = results(Composed(layer), x.astype(ms.float32), dy.astype(ms.float32))
    errors = [error(g, w) for g, w in zip(got, want, strict=True)]
    output, gradients = errors[0], max(errors[1:])
    allowed = ALLOWED[arguments.dtype]
    ok = output <= allowed[0] and gradients <= allowed[1]
    print(f"{channels:5} x {size:2}^2 / {stride}  {arguments.dtype}  output {output:.1e}  gradients {gradients:.1e}  "
          f"{'ok' if ok else 'WRONG'}  step: ours {ours:.2f} ms, composed in float32 {composed:.2f} ms, "
          f"{composed / ours:.2f} times", flush=True)  # fmt: skip
    return ok


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=ALLOWED, default="float32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mode", choices=("pynative", "graph"), default="graph")
    parser.add_argument("--repeats", type=int, default=20, help="of a step, for the median of its time")
    parser.add_argument("--layers", type=int, default=len(LAYERS), help="so many, the last ones of the network")
    parser.add_argument("--target", default="Ascend", help="MindSpore's device")
    parser.add_argument("--backend", default="ascend", help="SKNET_OPS_BACKEND")
    arguments = parser.parse_args(argv)
    os.environ["SKNET_OPS_BACKEND"] = arguments.backend
    if ms.get_context("device_target") != arguments.target:
        ms.set_device(arguments.target)
    ms.set_context(mode=ms.GRAPH_MODE if arguments.mode == "graph" else ms.PYNATIVE_MODE)
    if arguments.target == "Ascend":
        ms.set_context(jit_config={"jit_level": "O0"})  # such operators run at O0 and O1 only
    for backend in sknet_ops.available_backends():
        if backend.name == arguments.backend:
            print(backend)
    return 0 if all([check_layer(*layer, arguments) for layer in LAYERS[-arguments.layers :]]) else 1


if __name__ == "__main__":
    sys.exit(main())
