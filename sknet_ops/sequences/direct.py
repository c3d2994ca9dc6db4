# SPDX-License-Identifier: Apache-2.0
"""A frozen cell's sequence, called without MindSpore's executor.

On a call of a cell the executor spends 0.25 to 0.6 ms, more than some layers take, and in PyNative the calling thread
spins on a core while the op computes on another. A sequence with constants needs nothing of what it does there: there
is no gradient and no other op. So the C entry is called from here, on the tensors' own memory.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import mindspore
import numpy as np
from mindspore import Tensor, dtype, nn

from sknet_ops import backends, binary
from sknet_ops.backends import cpu
from sknet_ops.primitives.op_sequence import Attribute, attributes
from sknet_ops.sequences.recording import Program
from sknet_ops.sequences.steps import Dims

try:  # MindSpore 2.9 and later
    from mindspore.graph.api import _pynative_executor
    from mindspore.graph.jit_context import jit_context
except ImportError:  # older: why_not() says so
    _pynative_executor = jit_context = None

_MOST_LAYOUTS = 64
_UNKNOWN: Any = object()

_in_training = attrgetter("training")
_takes_batch = attrgetter("use_batch_statistics")
# What nn.Cell.__call__ would look at.
_own_wishes = attrgetter("requires_grad", "mixed_precision_type", "_shard_fn", "_recompute_cell")


@cache
def why_not() -> str | None:
    """None if tensors of this MindSpore lie where they say, else the reason."""
    version = tuple(int(part) for part in mindspore.__version__.split(".")[:2])
    if version < (2, 10):
        return f"MindSpore {mindspore.__version__}, of which tensors can have a second copy elsewhere; expected 2.10"
    array = np.arange(3, dtype=np.float32)
    probe = Tensor.from_numpy(array)
    if not probe.data_ptr() == _address(array) == _address(probe.asnumpy()):
        return "a tensor's memory is not that of its array"
    return None


class DirectCall:
    """The sequence of one cell. `cells`: all that took part."""

    def __init__(self, program: Program, weights: tuple[Tensor, ...], cells: tuple[nn.Cell, ...]) -> None:
        self._program = program
        self._weights = weights
        self._kinds = [(tuple(weight.shape), dtype.float32, "CPU", True) for weight in weights]
        self._cells = cells
        self._norms = tuple(cell for cell in cells if isinstance(cell, nn.BatchNorm2d))
        # These dicts stay the same objects; the ones of the gradient have no part in this.
        self._hooks = tuple(hooks for cell in cells for hooks in (cell._forward_pre_hook, cell._forward_hook))
        self._layouts: dict[Dims, _Layout | None] = {}
        self._call = binary.library().sknet_ops_sequence_call
        self._sequence = _native_sequence(attributes(program.inputs, program.steps, program.constants))
        backends.log_choice("op_sequence", f"{len(program.steps)} steps, called directly")

    # The packed weights, and where they come from, are this cell's alone: a copy finds its own.
    def __deepcopy__(self, memo: dict) -> None:
        return None

    def __reduce__(self) -> tuple:
        return type(None), ()

    def takes(self, x: Tensor) -> bool:
        """Whether the sequence is what MindSpore would run now, on this input."""
        return not (
            any(map(_in_training, self._cells))
            or any(map(_takes_batch, self._norms))
            or any(self._hooks)
            or self._layout(x) is None
            or [_kind(weight) for weight in self._weights] != self._kinds
        )

    def run(self, x: Tensor) -> Tensor | None:
        """The cell's result; None if a weight lies nowhere.

        Raises:
            RuntimeError: From the op, as MindSpore would raise it.
        """
        layout = self._layout(x)
        x = x if x.is_contiguous() else x.contiguous()
        source = x.data_ptr()  # waits for all that is still being computed
        if not source:  # of an initializer that has not run, or not gone there yet
            x = Tensor.from_numpy(np.ascontiguousarray(x.asnumpy()))
            source = x.data_ptr()
        weights = [weight.data_ptr() for weight in self._weights]
        if not all(weights):
            return None
        y = Tensor.from_numpy(np.empty(layout.result, np.float32))
        buffers = layout.buffers(source, *weights, y.data_ptr())
        error = ctypes.c_char_p()
        if self._call(self._sequence, len(buffers), buffers, layout.ranks, layout.dims, ctypes.byref(error)):
            raise RuntimeError(error.value.decode())
        return y

    def _layout(self, x: Tensor) -> _Layout | None:
        shape = tuple(x.shape)
        known = self._layouts.get(shape, _UNKNOWN)  # another thread may clear them right after
        if known is _UNKNOWN:
            result = self._program.result(shape)
            shapes = [shape, *(tuple(weight.shape) for weight in self._weights), result]
            known = None if result is None or 0 in shape else _layout(shapes)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[shape] = known
        return known


def call(cell: nn.Cell, program: Program, x: object) -> Tensor | None:
    """The result of a cell with constants; None if the call has to go MindSpore's way, which also has the errors."""
    if not isinstance(x, Tensor) or cell.sknet_outdated or any(_own_wishes(cell)) or why_not() is not None:
        return None
    if x.dtype != dtype.float32 or x.device != "CPU" or _pynative_executor.requires_grad():
        return None
    if jit_context() is not None:  # a trace would take the result for a constant
        return None
    if (os.environ.get("SKNET_OPS_BACKEND") or cpu.NAME) != cpu.NAME:
        return None
    if cell.sknet_direct is None:
        made = DirectCall(program, cell.sknet_weights, cell.sknet_cells)
        object.__setattr__(cell, "sknet_direct", made)
    return cell.sknet_direct.run(x) if cell.sknet_direct.takes(x) else None


class _Layout(NamedTuple):
    """What a call needs to know of its buffers, for one shape of the input."""

    result: Dims
    buffers: type[ctypes.Array]
    ranks: ctypes.Array
    dims: ctypes.Array
    kept: list[ctypes.Array]  # what `dims` points to


def _layout(shapes: list[Dims]) -> _Layout:
    kept = [(ctypes.c_int64 * len(shape))(*shape) for shape in shapes]
    pointer = ctypes.POINTER(ctypes.c_int64)
    dims = (pointer * len(shapes))(*(ctypes.cast(each, pointer) for each in kept))
    ranks = (ctypes.c_int * len(shapes))(*map(len, shapes))
    return _Layout(shapes[-1], ctypes.c_void_p * len(shapes), ranks, dims, kept)


def _kind(weight: Tensor) -> tuple:
    """What the C entry takes for granted of the memory at data_ptr()."""
    return tuple(weight.shape), weight.dtype, weight.device, weight.is_contiguous()


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class _Native:
    """Owns what the library made."""

    def __init__(self) -> None:
        library = binary.library()
        library.sknet_ops_sequence_new.restype = ctypes.c_void_p
        self._as_parameter_ = ctypes.c_void_p(library.sknet_ops_sequence_new())
        if not self._as_parameter_:
            raise MemoryError("sknet_ops: no memory for a sequence")
        # Not at exit: a daemon thread may still be inside.
        weakref.finalize(self, library.sknet_ops_sequence_free, self._as_parameter_).atexit = False


def _native_sequence(attrs: dict[str, Attribute]) -> _Native:
    library, sequence, error = binary.library(), _Native(), ctypes.c_char_p()
    for name, value in attrs.items():
        key = name.encode()
        if isinstance(value, str):
            failed = library.sknet_ops_sequence_set_text(sequence, key, value.encode(), ctypes.byref(error))
        elif isinstance(value, float):
            real = ctypes.c_double(value)
            failed = library.sknet_ops_sequence_set_real(sequence, key, real, ctypes.byref(error))
        else:
            values = value if isinstance(value, tuple) else (value,)
            ints = (ctypes.c_int64 * len(values))(*values)
            failed = library.sknet_ops_sequence_set_ints(sequence, key, ints, len(ints), ctypes.byref(error))
        if failed:
            raise RuntimeError(error.value.decode())
    if library.sknet_ops_sequence_ready(sequence, ctypes.byref(error)):
        raise RuntimeError(error.value.decode())
    return sequence
