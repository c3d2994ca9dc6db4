# SPDX-License-Identifier: Apache-2.0
"""Where the time of a network goes: each op with its share of what the machine could do."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from mindspore import Tensor

from sknet_ops import binary, checks
from sknet_ops.costs import Shape, cost

_OP = "profile"
_TRIAD_FLOATS = 16 << 20  # three arrays of 64 MB: beyond the caches


@dataclass(frozen=True)
class Roofline:
    """The machine's limits with the instruction set and the threads of the next op."""

    flops: float  # a second
    bandwidth: float  # bytes a second

    def seconds(self, flops: int, moved: int) -> float:
        """The least that so much arithmetic and so much traffic can take."""
        return max(flops / self.flops, moved / self.bandwidth)


@dataclass(frozen=True)
class OpTime:
    """All calls of one op on tensors of one set of shapes. Times in seconds, of all calls together."""

    op: str
    shapes: tuple[Shape, ...]  # inputs, then outputs
    calls: int
    seconds: float
    flops: int
    bytes: int
    limit: float  # what the roofline allows

    @property
    def share_of_roofline(self) -> float:
        """1 is the machine's limit. More is possible where tensors are still in the cache."""
        return self.limit / self.seconds

    @property
    def about(self) -> str:
        """The shapes that tell one call from another: of the input and of the first weight."""
        first = self.shapes[1:] if self.op.endswith("_grad") else self.shapes
        return " * ".join("x".join(map(str, shape)) for shape in first[:2] if len(shape) > 1)


@dataclass(frozen=True)
class Profile:
    """``print`` it, or read its fields. Times in seconds, medians of the runs."""

    ops: tuple[OpTime, ...]  # in the order of their first calls
    seconds: float  # one call of the network
    roofline: Roofline

    @property
    def outside(self) -> float:
        """Time in none of our ops: MindSpore's own, and its operators'."""
        return self.seconds - sum(op.seconds for op in self.ops)

    def __str__(self) -> str:
        head = f"{'op':<22}{'shape':<34}{'calls':>6}{'ms':>10}{'time':>7}{'GFLOP/s':>9}{'GB/s':>7}{'roofline':>10}"
        lines = [head]
        for op in sorted(self.ops, key=lambda op: -op.seconds):
            lines.append(
                f"{op.op:<22}{op.about:<34}{op.calls:>6}{op.seconds * 1e3:>10.3f}{op.seconds / self.seconds:>7.1%}"
                f"{op.flops / op.seconds / 1e9:>9.1f}{op.bytes / op.seconds / 1e9:>7.1f}{op.share_of_roofline:>10.1%}"
            )
        lines.append(f"{'outside of the ops':<56}{'':>6}{self.outside * 1e3:>10.3f}{self.outside / self.seconds:>7.1%}")
        limit = sum(op.limit for op in self.ops)
        lines.append(f"{'in all':<56}{'':>6}{self.seconds * 1e3:>10.3f}{1:>7.1%}{'':>16}{limit / self.seconds:>10.1%}")
        lines.append(
            f"measured limits: {self.roofline.flops / 1e9:.0f} GFLOP/s, {self.roofline.bandwidth / 1e9:.1f} GB/s "
            f"({binary.active_isa()}, {binary.num_threads()} threads)"
        )
        return "\n".join(lines)


def profile(net: Callable, *inputs: Tensor, runs: int = 10) -> Profile:
    """Calls ``net(*inputs)`` and times the native ops inside, forward and backward, in either execution mode.

    Args:
        net: A network, a training step, or any function that runs either.
        inputs: What it is called with.
        runs: Calls that count; two before them do not.

    Returns:
        The time of each op, with its share of the roofline that is measured first. ``print`` shows a table.

    Raises:
        TypeError, ValueError: A wrong argument; ValueError also if `net` calls none of our ops.
        BinaryMissingError: If the native library has not been built.

    Nothing is timed, and nothing is slower, while no profile runs. One runs at a time in a process.
    """
    if not callable(net):
        checks.fail(TypeError, _OP, "net", type(net).__name__, "a network or another callable")
    checks.integer(_OP, "runs", runs, 1)
    limits = roofline()
    for _ in range(2):
        _finish(net(*inputs))
    library = binary.library()
    walls, counts = [], [0]
    library.sknet_ops_profile_start()
    try:  # one call right after the other: what else runs between would cool caches and send threads to sleep
        for _ in range(runs):
            start = time.perf_counter()
            _finish(net(*inputs))
            walls.append(time.perf_counter() - start)
            counts.append(library.sknet_ops_profile_count())
    finally:
        library.sknet_ops_profile_stop()
    notes = [_read(first, last) for first, last in pairwise(counts)]
    if not notes[0]:
        checks.fail(ValueError, _OP, "net", "one that calls no op of sknet_ops", "one that does: sknet_ops.fuse(net)")
    ops = tuple(_summary(key, [run[key] for run in notes if key in run], limits) for key in notes[0])
    return Profile(ops, statistics.median(walls), limits)


def roofline() -> Roofline:
    """The machine's limits for the current number of threads and instruction set; measured once for each, in a second.

    Raises:
        BinaryMissingError: If the native library has not been built.
        MemoryError: If the 192 MB for the bandwidth cannot be had.
    """
    return _measure(binary.active_isa(), binary.num_threads())


@cache
def _measure(isa: str, threads: int) -> Roofline:
    library = binary.library()
    library.sknet_ops_peak_flops.restype = ctypes.c_double
    library.sknet_ops_peak_bandwidth.restype = ctypes.c_double
    library.sknet_ops_peak_bandwidth.argtypes = [ctypes.c_longlong]
    found = Roofline(library.sknet_ops_peak_flops(), library.sknet_ops_peak_bandwidth(_TRIAD_FLOATS))
    if min(found.flops, found.bandwidth) <= 0:
        raise MemoryError("sknet_ops: the machine's limits could not be measured: no memory for it")
    return found


_Key = tuple[str, str]


def _read(first: int, last: int) -> dict[_Key, list[float]]:
    """Seconds of every call that the notes [first, last) tell of, by op and shapes."""
    function = binary.library().sknet_ops_profile_note
    function.restype = ctypes.c_double
    op, shapes = ctypes.c_char_p(), ctypes.c_char_p()
    found: dict[_Key, list[float]] = {}
    for index in range(first, last):
        seconds = function(index, ctypes.byref(op), ctypes.byref(shapes))
        found.setdefault((op.value.decode(), shapes.value.decode()), []).append(seconds)
    return found


def _summary(key: _Key, runs: list[list[float]], limits: Roofline) -> OpTime:
    op, text = key
    shapes = tuple(tuple(int(d) for d in shape.split(",") if d) for shape in text.split(";"))
    once = cost(op, shapes)
    calls = len(runs[0])
    seconds = statistics.median(sum(run) for run in runs)
    limit = calls * limits.seconds(*once)
    return OpTime(op, shapes, calls, seconds, calls * once.flops, calls * once.bytes, limit)


def _finish(result: object) -> None:
    """Waits until it has been computed: PyNative returns before that."""
    if isinstance(result, Tensor):
        result.asnumpy()
    elif isinstance(result, (tuple, list)):
        for item in result:
            _finish(item)
