# SPDX-License-Identifier: Apache-2.0
"""Times of one SK unit on the device: ours, PyTorch eager, torch.compile.

Each variant is captured in a CUDA graph, and calls are queued while the device waits, so that none pays for the host; a
variant that cannot be captured has no time. Inputs rotate among buffers: what the calls of a round move does not fit in
the cache together. Times are medians of device events.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from sk_torch import SAVED, SkUnit, Unit

ROTATED_BYTES = 160 << 20  # three times the second-level cache of an H100
REPLAYS = 40
WAIT_CYCLES = 4_000_000  # two milliseconds: longer than queueing a round of replays should take
SLOW = 50.0  # milliseconds: of such calls a few are enough
MEMORY = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
PASSES = ("inference", "training forward", "training step")
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def allow_tf32(on: bool) -> None:
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on


def median_of(calls: list[Callable[[], Any]], seconds: float = 0.1) -> dict[str, float]:
    """Median, 20th and 80th percentile in microseconds of calls taken in turn."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    times: list[float] = []
    budget = seconds * 1e3
    while len(times) < REPLAYS:
        events = []
        torch.cuda._sleep(WAIT_CYCLES)
        for call in calls:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            end.record()
            events.append((start, end))
        torch.cuda.synchronize()
        elapsed = [start.elapsed_time(end) for start, end in events]
        budget -= sum(elapsed)
        times += elapsed
        if budget <= 0 and len(times) >= (3 if elapsed[0] > SLOW else 10):
            break
    ranked = sorted(times)
    return {"median_us": 1e3 * statistics.median(ranked), "p20_us": 1e3 * ranked[len(ranked) // 5],
            "p80_us": 1e3 * ranked[len(ranked) * 4 // 5], "runs": len(ranked)}  # fmt: skip


class CaptureError(RuntimeError):
    """A capture that was broken leaves PyTorch's allocator and streams in no state to time anything."""


def captured(call: Callable[[], Any], warm_ups: int) -> Callable[[], Any]:
    """The call as a graph replay.

    Raises:
        CaptureError: It cannot be one.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_ups):  # cuDNN's search and compilation happen here
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            kept = call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise CaptureError(str(error)) from error
    replay = graph.replay
    return lambda: (replay(), kept)[0]  # the outputs live as long as the graph


class Bench:
    """One unit, batch and precision: parameters shared by all variants."""

    def __init__(self, unit: Unit, batch: int, precision: str) -> None:
        self.unit, self.batch, self.precision = unit, batch, precision
        self.dtype = PRECISIONS[precision]
        torch.manual_seed(0)
        self.layer = SkUnit(unit).cuda()
        self.buffers = max(2, -(-ROTATED_BYTES // self.bytes_moved("inference")))
        shape = (batch, unit.channels, unit.size, unit.size)
        out = (batch, unit.channels, unit.out_size, unit.out_size)
        self.x = [torch.randn(shape, device="cuda", dtype=self.dtype) for _ in range(self.buffers)]
        self.dy = [torch.randn(out, device="cuda", dtype=self.dtype) for _ in range(self.buffers)]

    def torch_calls(self, which: str, compiled: bool, layout: str) -> list[Callable[[], Any]]:
        """PyTorch on maps in that layout; for 16-bit maps weights are cast once, norms stay float32."""
        memory = MEMORY[layout]
        allow_tf32(self.precision == "tf32")
        layer = SkUnit(self.unit).cuda()
        layer.load_state_dict(self.layer.state_dict())
        layer = layer.to(memory_format=memory)
        if self.dtype != torch.float32:
            for module in (*layer.convs, layer.fc_reduce, layer.fc_select):
                module.to(self.dtype)
            for norm in (*layer.norms, layer.norm):
                norm.float()  # BatchNorm2d takes 16-bit maps with float32 parameters
        layer.train(which != "inference")
        if compiled:
            torch._dynamo.reset()  # else it gives up after a few layers of one class
        forward = torch.compile(layer, dynamic=False) if compiled else layer
        parameters = list(layer.parameters())

        def call(x: torch.Tensor, dy: torch.Tensor) -> Any:
            if which != "training step":
                with torch.no_grad():
                    return forward(x)
            return torch.autograd.grad(forward(x), [x, *parameters], dy)

        # A tensor of its own, since it is marked.
        inputs = [x.clone(memory_format=memory).requires_grad_(which == "training step") for x in self.x]
        grads = [dy.contiguous(memory_format=memory) for dy in self.dy]
        return [lambda x=x, dy=dy: call(x, dy) for x, dy in zip(inputs, grads, strict=True)]

    # layout: of maps; inside: of z between the unit's kernels.
    def our_calls(self, which: str, library: Any, layout: str, inside: str) -> list[Callable[[], Any]]:
        memory = MEMORY[layout]
        arguments = self.layer.arguments()
        how = {"tf32": self.precision == "tf32", "inside": inside}

        def call(x: torch.Tensor, dy: torch.Tensor) -> Any:
            out = library.selective_kernel(x=x, **arguments, training=which != "inference", **how)
            if which != "training step":
                return out
            saved = {name: out[name] for name in SAVED}
            grads = library.selective_kernel_grad(dy=dy, x=x, **arguments, attention=out["attention"], **saved,
                                                  training=True, **how)  # fmt: skip
            return out, grads

        pairs = [(x.contiguous(memory_format=memory), dy.contiguous(memory_format=memory))
                 for x, dy in zip(self.x, self.dy, strict=True)]  # fmt: skip
        return [lambda x=x, dy=dy: call(x, dy) for x, dy in pairs]

    def variant(self, name: str, which: str, library: Any, module: Any, compiled_layout: str) -> dict[str, Any]:
        """Times of "eager" (channels-last), "eager_nchw", "compile" in `compiled_layout`, or one of ours by its
        arrangement."""
        if name in module.ARRANGEMENTS:
            return self.measure(self.our_calls(which, library, *module.ARRANGEMENTS[name]))
        layout = {"eager": "nhwc", "eager_nchw": "nchw", "compile": compiled_layout}[name]
        return {**self.measure(self.torch_calls(which, name == "compile", layout)), "layout": layout}

    def measure(self, calls: list[Callable[[], Any]]) -> dict[str, Any]:
        return median_of([captured(call, 1 if index else 3) for index, call in enumerate(calls)])

    def operations(self, which: str) -> int:
        """Of floating point in the convolutions, a multiply-add being two."""
        convolution = 2 * 9 * self.unit.channels // self.unit.groups * self.batch * self.unit.channels
        forward = 2 * convolution * self.unit.out_size**2
        return forward if which != "training step" else 3 * forward

    def bytes_moved(self, which: str) -> int:
        """What our kernels have to read and write of maps at the least: each map once a kernel that needs it."""
        size = self.dtype.itemsize * self.batch * self.unit.channels
        x, y = size * self.unit.size**2, size * self.unit.out_size**2
        forward = {"inference": x + 2 * y + 2 * y + y, "training forward": x + 2 * y + 2 * y + 2 * y + y}
        backward = (y + 2 * y) + (y + 2 * y + x) + (x + y + 2 * y)  # gates; by input; by weight
        return forward[which] if which in forward else forward["training forward"] + backward


def copy_bandwidth() -> float:
    """Bytes a second of a large device-to-device copy, read and written bytes counted."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    took = median_of([lambda: target.copy_(source)])["median_us"]
    return 2 * source.numel() / took * 1e6
