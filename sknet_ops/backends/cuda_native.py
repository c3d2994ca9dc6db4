# SPDX-License-Identifier: Apache-2.0
"""The CUDA ops on device memory, without MindSpore: tensors of PyTorch, CuPy, or whatever speaks DLPack.

    from sknet_ops.backends import cuda_native
    ops = cuda_native.Library("sknet_ops/lib/libsknet_ops_cuda.so")
    out = ops.sk_conv(x=x, weight=[w0, w1], gamma=[...], ..., stride=1, groups=32, dilation=[1, 2], padding=[1, 2])

This file needs nothing but the standard library, so that it can be loaded alone. Arguments and results bear the names
of ``sknet_ops._native``: lists for one a branch, a dict of outputs; `training` adds what the gradient op takes. Maps
(x, u, z, y and their gradients) are float32, float16 or bfloat16, all of one type; everything else is float32. Shapes
are checked in C++ before anything is launched.

Maps lie contiguous in NCHW, or with channels last (PyTorch's ``memory_format``), which strides tell: all maps of a call
in one layout, outputs in the same. Stacked maps with channels last are (n, branches, h, w, c) in memory. One exception:
`selective_kernel` may keep z, which only its gradient reads, with channels last though the other maps are NCHW.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MAPS = frozenset({"x", "u", "z", "y", "dx", "du", "dy"})
STORAGE = {"float32": 0, "float16": 1, "bfloat16": 2}
LAYOUTS = ("nchw", "nhwc")
# Layouts of maps, and of z between the kernels of selective_kernel.
ARRANGEMENTS = {"nchw": ("nchw", "nchw"), "turned": ("nchw", "nhwc"), "nhwc": ("nhwc", "nhwc")}
# From the order of dimensions in memory to that of the shape, by rank.
CHANNELS_LAST = {4: (0, 3, 1, 2), 5: (0, 1, 4, 2, 3)}
_MAX_RANK = 8
_MAX_OUTPUTS = 32

_BRANCH = ("weight", "gamma", "beta", "moving_mean", "moving_variance")
_ATTENTION = ("fc_reduce", "gamma", "beta", "moving_mean", "moving_variance", "fc_select")
_UNIT = ("fc_reduce", "attn_gamma", "attn_beta", "attn_moving_mean", "attn_moving_variance", "fc_select")
_CONV_SAVED = ("z", "mean", "inv_std")
_ATTENTION_SAVED = ("pooled", "hidden", "mean", "inv_std")
_UNIT_SAVED = (*_CONV_SAVED, "pooled", "hidden", "attn_mean", "attn_inv_std")
_CONV_DEFAULTS = {"stride": 1, "groups": 1, "split_input": False, "relu": True}
_NORM_DEFAULTS = {"training": False, "eps": 1e-5, "momentum": 0.1}


@dataclass(frozen=True)
class _Op:
    """Order of the tensors, as csrc/bindings/mindspore_<op>.cc has it. Names in `branch` are lists."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    saved: tuple[str, ...] = ()  # outputs (forward) or inputs (gradient) in training only
    attrs: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    branch: frozenset[str] = frozenset()


def _op(inputs: Sequence[str], outputs: Sequence[str], saved: Sequence[str] = (), attrs: Sequence[str] = (),
        defaults: dict[str, Any] | None = None, branch: Sequence[str] = ()) -> _Op:  # fmt: skip
    return _Op(tuple(inputs), tuple(outputs), tuple(saved), tuple(attrs), tuple((defaults or {}).items()),
               frozenset(branch))  # fmt: skip


_LISTS = (*_BRANCH, "dweight", "dgamma", "dbeta")
_CONV = {**_NORM_DEFAULTS, **_CONV_DEFAULTS}
_BOTH = {**_CONV, "attn_eps": 1e-5, "attn_momentum": 0.1, "frozen": False}
_SIZES = ("padding", "dilation")
OPS = {
    "sk_conv": _op(("x", *_BRANCH), ("u",), _CONV_SAVED, _SIZES, _CONV, _LISTS),
    "sk_conv_grad": _op(("du", "x", *_BRANCH), ("dx", "dweight", "dgamma", "dbeta"), _CONV_SAVED, _SIZES, _CONV,
                        _LISTS),
    "sk_attention": _op(("u", *_ATTENTION), ("attention",), _ATTENTION_SAVED, (), _NORM_DEFAULTS),
    "sk_attention_grad": _op(("dattention", "u", *_ATTENTION, "attention"),
                             ("du", "dfc_reduce", "dgamma", "dbeta", "dfc_select"), _ATTENTION_SAVED, (),
                             _NORM_DEFAULTS),
    "sk_select": _op(("u", "attention"), ("y",)),
    "sk_select_grad": _op(("dy", "u", "attention"), ("du", "dattention")),
    "selective_kernel": _op(("x", *_BRANCH, *_UNIT), ("y", "attention"), _UNIT_SAVED, _SIZES, _BOTH, _LISTS),
    "selective_kernel_grad": _op(
        ("dy", "x", *_BRANCH, *_UNIT, "attention"),
        ("dx", "dweight", "dgamma", "dbeta", "dfc_reduce", "dattn_gamma", "dattn_beta", "dfc_select"), _UNIT_SAVED,
        _SIZES, _BOTH, _LISTS),
}  # fmt: skip


class CudaError(RuntimeError):
    """A CUDA call failed; the message names op, file, line and CUDA's reason."""


@dataclass(frozen=True)
class Tensor:
    """What a call needs of a tensor. `owner` keeps it alive. No strides: contiguous in the order of the shape. No
    device: the caller answers for it."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    owner: Any
    strides: tuple[int, ...] | None = None
    device: str | None = None  # "cpu", "cuda:0"

    def permute(self, *order: int) -> Tensor:
        strides = self.strides or _contiguous_strides(self.shape)
        return replace(self, shape=tuple(self.shape[i] for i in order), strides=tuple(strides[i] for i in order))

    def layouts(self) -> set[str]:
        """Those in which the values lie without gaps; both where one dimension makes no difference."""
        if self.strides is None or 0 in self.shape:
            return set(LAYOUTS) if _same_in_both(self.shape) else {"nchw"}
        orders = {"nchw": range(len(self.shape)), "nhwc": _last_order(len(self.shape))}
        return {layout for layout, order in orders.items() if order is not None and self._packed(list(order))}

    def _packed(self, order: list[int]) -> bool:
        expected = _contiguous_strides([self.shape[i] for i in order])
        return all(self.shape[i] == 1 or self.strides[i] == stride for i, stride in zip(order, expected, strict=True))


def _contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides, stride = [], 1
    for size in reversed(shape):
        strides.append(stride)
        stride *= size
    return tuple(reversed(strides))


def _last_order(rank: int) -> tuple[int, ...] | None:
    """Dimensions of the shape in the order of memory, channels last; None for what is no map."""
    order = CHANNELS_LAST.get(rank)
    return tuple(order.index(i) for i in range(rank)) if order else None


def _same_in_both(shape: Sequence[int]) -> bool:
    return len(shape) in CHANNELS_LAST and (0 in shape or shape[-3] == 1 or shape[-2] == shape[-1] == 1)


@dataclass(frozen=True)
class Plan:
    """What a call would do: ``(kernel, blocks, bytes of shared memory)`` in order, and its bytes of scratch."""

    launches: tuple[tuple[str, int, int], ...]
    scratch_bytes: int


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


_DLPACK_DEVICES = {1: "cpu", 2: "cuda", 13: "cuda"}  # 13: managed memory
_DLPACK_TYPES = {(2, 32): "float32", (2, 16): "float16", (4, 16): "bfloat16", (2, 64): "float64"}


def _from_dlpack(name: str, value: Any) -> Tensor:
    # Used on CuPy's current stream, the array is not to wait for another, least of all while a graph is captured.
    capsule = value.__dlpack__(stream=-1) if _framework(value) == "cupy" else value.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    # An unconsumed capsule frees itself; the value that it came from stays with us.
    tensor = _DLTensor.from_address(get(capsule, b"dltensor"))
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = _DLPACK_TYPES.get((tensor.code, tensor.bits), f"type {tensor.code} of {tensor.bits} bits")
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    kind = _DLPACK_DEVICES.get(tensor.device_type, f"device type {tensor.device_type}")
    device = kind if kind == "cpu" else f"{kind}:{tensor.device_id}"
    pointer = (tensor.data or 0) + tensor.byte_offset
    return _without_gaps(name, Tensor(pointer, shape, dtype, (value, capsule), strides, device))


def _without_gaps(name: str, tensor: Tensor) -> Tensor:
    if not tensor.layouts():
        last = " or with channels last" if len(tensor.shape) in CHANNELS_LAST else ""
        raise ValueError(f"{name}: got a strided tensor, expected a contiguous one{last}")
    return tensor


def _framework(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def as_tensor(name: str, value: Any) -> Tensor:
    """What a call sees of a framework's tensor."""
    if isinstance(value, Tensor):
        return value
    if _framework(value) == "torch":
        dtype = str(value.dtype).removeprefix("torch.")
        pointer, strides = value.data_ptr(), tuple(value.stride())
        return _without_gaps(name, Tensor(pointer, tuple(value.shape), dtype, value, strides, str(value.device)))
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(name, value)
    raise TypeError(f"{name}: got {type(value).__name__}, expected a device tensor that speaks DLPack")


def _allocator(example: Any) -> Callable[[tuple[int, ...], str], Any]:
    """Makes uninitialised tensors of the framework, and on the device, of `example`."""
    framework = _framework(example)
    if framework == "torch":
        torch = sys.modules[framework]
        return lambda shape, dtype: torch.empty(shape, dtype=getattr(torch, dtype), device=example.device)
    if framework == "cupy":
        cupy = sys.modules[framework]
        return lambda shape, dtype: cupy.empty(shape, dtype)
    raise TypeError(f"got tensors of {framework}: pass empty=, a function of shape and dtype")


def _permuted(value: Any, order: tuple[int, ...]) -> Any:
    return value.permute(*order) if hasattr(value, "permute") else value.transpose(*order)


def _on_device(example: Any) -> Any:
    """Makes the tensor's device the current one for a while; of other frameworks than these the caller has to."""
    framework = _framework(example)
    if framework == "torch" and example.is_cuda:
        return sys.modules["torch"].cuda.device(example.device)
    return example.device if framework == "cupy" else contextlib.nullcontext()


def _current_stream(example: Any) -> int:
    framework = _framework(example)
    if framework == "torch" and example.is_cuda:
        torch = sys.modules[framework]
        return torch.cuda.current_stream(example.device).cuda_stream
    if framework == "cupy":
        cupy = sys.modules[framework]
        return cupy.cuda.get_current_stream().ptr
    return 0


class Library:
    """libsknet_ops_cuda.so. Every op is a method that takes keyword arguments and returns a dict.

    Args:
        path: The library.
        empty: Makes an uninitialised tensor from shape and dtype name. Default: that of the inputs' framework.

    Beside the op's own arguments each method takes ``tf32=True`` (float32 maps may go through tensor cores, which read
    10 bits of mantissa) and ``stream`` (a pointer; default: the framework's current stream. Outputs and scratch are
    allocated on the current one, so with another the caller has to order the two). `selective_kernel` and its gradient
    take ``inside``, the layout of z, "nchw" or "nhwc"; default: that of a z which is given, else :meth:`inside_layout`.
    """

    def __init__(self, path: str | Path, empty: Callable[[tuple[int, ...], str], Any] | None = None) -> None:
        self._library = library = ctypes.CDLL(str(path))
        self._empty = empty
        library.sknet_ops_cuda_error.restype = ctypes.c_char_p
        library.sknet_ops_cuda_attributes.restype = ctypes.c_void_p
        self.device_kind = _DLPACK_DEVICES[library.sknet_ops_cuda_device_type()]

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        if name not in OPS:
            raise AttributeError(f"no op {name}: there are {', '.join(OPS)}")
        return lambda **arguments: self._run(name, arguments)

    def device(self) -> tuple[int, int, int]:
        """(10 major + minor of the compute capability, multiprocessors, shared memory of a block) of the current one.

        Raises:
            CudaError: If there is none.
        """
        values = [ctypes.c_int() for _ in range(3)]
        self._check(self._library.sknet_ops_cuda_device(*map(ctypes.byref, values)))
        return tuple(value.value for value in values)

    def _current(self, op: str) -> int:
        index = ctypes.c_int()
        self._check(self._library.sknet_ops_cuda_current(op.encode(), ctypes.byref(index)))
        return index.value

    def preferred_layout(self, channels_a_group: int, dtype: str = "float32", tf32: bool = False) -> str:
        """What to keep a network's maps in, "nchw" or "nhwc"; by the table in csrc/cuda/preferred_layout.h."""
        last = self._library.sknet_ops_cuda_prefers_channels_last(STORAGE[dtype], int(tf32), channels_a_group)
        return LAYOUTS[last]

    def inside_layout(self, channels_a_group: int, dtype: str = "float32", tf32: bool = False) -> str:
        """What `selective_kernel` keeps z in where maps are NCHW; by the same table, or SKNET_OPS_CUDA_INSIDE.

        Raises:
            ValueError: If that is neither "nchw" nor "nhwc".
        """
        turns = ctypes.c_int()
        question = STORAGE[dtype], int(tf32), channels_a_group, ctypes.byref(turns)
        self._check(self._library.sknet_ops_cuda_turns_inside(*question))
        return LAYOUTS[turns.value]

    def plan(self, op: str, *, capability: int = 90, multiprocessors: int = 132, shared_bytes: int = 227 << 10,
             tf32: bool = False, layout: str = "nchw", **arguments: Any) -> Plan:  # fmt: skip
        """What the op would launch on such a device. Tensors may be given as ``(shape, dtype name)``."""
        call = _Call(self, op, arguments, tf32, abstract=layout)
        with self._settings(call), _Attributes(self, call.attrs) as attributes:
            call.infer(attributes)
            scratch, lines = ctypes.c_int64(), ctypes.c_char_p()
            self._check(self._library.sknet_ops_cuda_plan(
                op.encode(), attributes, *call.buffers(call.placeholders()), capability, multiprocessors, shared_bytes,
                ctypes.byref(scratch), ctypes.byref(lines)))  # fmt: skip
        launches = (line.split() for line in lines.value.decode().splitlines())
        return Plan(tuple((name, int(blocks), int(shared)) for name, blocks, shared in launches), scratch.value)

    def _run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        tf32, stream = arguments.pop("tf32", False), arguments.pop("stream", None)
        call = _Call(self, op, arguments, tf32)
        example = call.example
        empty = self._empty or _allocator(example)
        with _on_device(example), _Attributes(self, call.attrs) as attributes:
            if self.device_kind == "cuda":
                call.check_current(self._current(op))
            stream = _current_stream(example) if stream is None else stream
            call.infer(attributes)
            outputs = [call.output(empty, name, *spec)
                       for name, spec in zip(call.output_names, call.output_specs, strict=True)]  # fmt: skip
            tensors = [as_tensor(name, value) for name, value in zip(call.output_names, outputs, strict=True)]
            call.check_devices(call.output_names, tensors)
            buffers = call.buffers(tensors)
            scratch, lines = ctypes.c_int64(), ctypes.c_char_p()
            of_current_device = 0, 0, 0
            with self._settings(call, stream):
                self._check(self._library.sknet_ops_cuda_plan(op.encode(), attributes, *buffers, *of_current_device,
                                                              ctypes.byref(scratch), ctypes.byref(lines)))  # fmt: skip
            # Scratch from the framework's own allocator, which knows streams and graph capture.
            words = empty((scratch.value // 4 + 64,), "float32")
            memory = as_tensor("scratch", words)
            call.check_devices(["scratch"], [memory])
            aligned = (memory.pointer + 255) // 256 * 256
            with self._settings(call, stream, aligned, scratch.value):
                self._check(self._library.sknet_ops_cuda_call(op.encode(), attributes, *buffers))
        return call.named(outputs)

    @contextlib.contextmanager
    def _settings(self, call: _Call, stream: int = 0, scratch: int = 0, scratch_bytes: int = 0) -> Iterator[None]:
        """The thread's settings for a while; then those that it starts with, which MindSpore's calls rely on."""

        def put(stream: int, numbers: tuple[int, int, int, int], scratch: int, scratch_bytes: int) -> None:
            arguments = ctypes.c_void_p(stream), *numbers, ctypes.c_void_p(scratch), ctypes.c_int64(scratch_bytes)
            self._check(self._library.sknet_ops_cuda_settings(*arguments))

        put(stream, call.settings(), scratch, scratch_bytes)
        try:
            yield
        finally:
            put(0, (0, 0, 0, 0), 0, 0)

    def _check(self, status: int) -> None:
        if status != 0:
            text = self._library.sknet_ops_cuda_error().decode()
            raise ValueError(text) if status == 1 else CudaError(text)


class _Attributes:
    """The attributes of one call on the C side."""

    def __init__(self, library: Library, values: dict[str, Any]) -> None:
        self._owner, self._library, self._values = library, library._library, values

    def __enter__(self) -> ctypes.c_void_p:
        self._pointer = ctypes.c_void_p(self._library.sknet_ops_cuda_attributes())
        for name, value in self._values.items():
            numbers = list(value) if isinstance(value, (list, tuple)) else [value]
            array = (ctypes.c_double * len(numbers))(*map(float, numbers))
            self._owner._check(self._library.sknet_ops_cuda_set(self._pointer, name.encode(), array, len(numbers)))
        return self._pointer

    def __exit__(self, *_: object) -> None:
        self._library.sknet_ops_cuda_free_attributes(self._pointer)


class _Call:
    """Arguments of one call in the order that C expects. `abstract`: tensors are shapes alone, maps in that layout."""

    def __init__(
        self, library: Library, op: str, arguments: dict[str, Any], tf32: bool, abstract: str | None = None
    ) -> None:
        self._library, self._op, self._spec, self._tf32 = library, op, OPS[op], bool(tf32)
        spec = self._spec
        self._of_unit = op.startswith("selective_kernel")
        inside = arguments.pop("inside", None) if self._of_unit else None
        arguments = {name: value for name, value in arguments.items() if value is not None}
        self.attrs = {name: arguments.pop(name, default) for name, default in spec.defaults}
        for name in spec.attrs:
            if name not in arguments:
                raise TypeError(f"{op}: missing argument {name}")
            self.attrs[name] = arguments.pop(name)
        training = bool(self.attrs.get("training", False))
        wanted = spec.inputs + (spec.saved if training and op.endswith("_grad") else ())
        self._names, self._values = [], []
        for name in wanted:
            if name not in arguments:
                raise TypeError(f"{op}: missing argument {name}")
            value = arguments.pop(name)
            many = name in spec.branch and (name in _BRANCH) and "x" in spec.inputs
            for index, item in enumerate(value if many else [value]):
                self._names.append(f"{name}[{index}]" if many else name)
                self._values.append(item)
        for name in spec.saved:
            arguments.pop(name, None)  # the gradient may be given what inference does not have
        if arguments:
            raise TypeError(f"{op}: unexpected arguments {sorted(arguments)}")
        self._branches = sum(name.startswith("weight[") for name in self._names)
        self._outputs = spec.outputs + (spec.saved if training and not op.endswith("_grad") else ())
        self.example = self._values[0]
        if abstract:
            self._inputs = [self._abstract(name, value) for name, value in zip(self._names, self._values, strict=True)]
        else:
            self._inputs = [as_tensor(f"{op}: {n}", v) for n, v in zip(self._names, self._values, strict=True)]
        self._check_types()
        self.check_devices(self._names, self._inputs)
        self.layout = abstract or self._common_layout()
        self.inside = self._inside_layout(inside, abstract is None)

    @staticmethod
    def _abstract(name: str, value: Any) -> Tensor:
        shape, dtype = value if isinstance(value, tuple) else (tuple(value.shape), "float32")
        return Tensor(256, tuple(shape), dtype, None)

    def _check_types(self) -> None:
        maps = {t.dtype for n, t in zip(self._names, self._inputs, strict=True) if n in MAPS}
        if len(maps) != 1 or not maps <= STORAGE.keys():
            raise TypeError(f"{self._op}: maps: got {', '.join(sorted(maps))}, expected one of {', '.join(STORAGE)}")
        self.storage = STORAGE[(dtype := maps.pop())]
        self._map_dtype = dtype
        for name, tensor in zip(self._names, self._inputs, strict=True):
            if name not in MAPS and tensor.dtype != "float32":
                raise TypeError(f"{self._op}: {name}: got {tensor.dtype}, expected float32")

    def check_devices(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """All on one, with the inputs. A kernel that follows a pointer to elsewhere ends the process' use of a GPU."""
        known = ((n, t.device) for n, t in zip(self._names, self._inputs, strict=True) if t.device is not None)
        first, expected = next(known, ("", None))
        for name, tensor in zip(names, tensors, strict=True):
            device = tensor.device
            if device is None:
                continue
            if device.partition(":")[0] != self._library.device_kind:
                raise ValueError(
                    f"{self._op}: {name}: got a tensor on {device}, expected one on {self._library.device_kind}"
                )
            if expected is not None and device != expected:
                raise ValueError(f"{self._op}: {name}: got a tensor on {device}, expected {expected}, where {first} is")

    def check_current(self, index: int) -> None:
        """What is launched runs on the current device; PyTorch's and CuPy's tensors have made theirs that."""
        for name, tensor in zip(self._names, self._inputs, strict=True):
            if tensor.device not in (None, f"cuda:{index}"):
                raise ValueError(
                    f"{self._op}: {name}: got a tensor on {tensor.device}, expected cuda:{index}, the current device"
                )

    def _common_layout(self) -> str:
        """Of all maps; NCHW if that leaves both. Everything else is contiguous."""
        common, found = list(LAYOUTS), []
        for name, tensor in zip(self._names, self._inputs, strict=True):
            layouts = tensor.layouts()
            if name == "z" and self._of_unit:
                continue  # may differ
            if name in MAPS:
                common = [layout for layout in common if layout in layouts]
                found.append(f"{name} in {' or '.join(sorted(layouts)).upper()}")
            elif "nchw" not in layouts:
                raise ValueError(f"{self._op}: {name}: got channels last, expected a contiguous tensor")
        if not common:
            raise ValueError(f"{self._op}: maps: got {', '.join(found)}, expected all in one layout")
        return common[0]

    def _inside_layout(self, asked: str | None, of_z: bool) -> str:
        """Of z: what is asked for, or what a z that is given has, or the library's choice."""
        if not self._of_unit:
            return self.layout
        if asked is not None and asked not in LAYOUTS:
            raise ValueError(f"{self._op}: inside: got {asked!r}, expected one of {', '.join(LAYOUTS)}")
        if asked == "nchw" and self.layout == "nhwc":
            raise ValueError(f"{self._op}: inside: got 'nchw' with maps in NHWC, expected 'nhwc'")
        wanted = [asked] if asked else ["nhwc"] if self.layout == "nhwc" else list(LAYOUTS)
        if of_z and "z" in self._names:
            layouts = self._inputs[self._names.index("z")].layouts()
            expected = " or ".join(wanted).upper()
            wanted = [layout for layout in wanted if layout in layouts]
            if not wanted:
                raise ValueError(f"{self._op}: z: got {' or '.join(sorted(layouts)).upper()}, expected {expected}")
        if len(wanted) == 1:
            return wanted[0]
        # Of a weight that is wrong or missing the shapes' check speaks.
        shapes = (t.shape for name, t in zip(self._names, self._inputs, strict=True) if name == "weight[0]" and t.shape)
        channels = next((shape[0] // max(int(self.attrs["groups"]), 1) for shape in shapes), 0)
        return self._library.inside_layout(channels, self._map_dtype, self._tf32)

    def settings(self) -> tuple[int, int, int, int]:
        """Storage, layout of the maps, layout of z (1 more: 0 is the table's choice), tf32."""
        return self.storage, LAYOUTS.index(self.layout), 1 + LAYOUTS.index(self.inside), int(self._tf32)

    def output(
        self, empty: Callable[[tuple[int, ...], str], Any], name: str, shape: tuple[int, ...], dtype: str
    ) -> Any:
        """A new tensor; a map in the layout of the inputs, z in its own."""
        if name not in MAPS or (self.inside if name == "z" else self.layout) == "nchw":
            return empty(shape, dtype)
        memory = tuple(shape[i] for i in _last_order(len(shape)))
        return _permuted(empty(memory, dtype), CHANNELS_LAST[len(shape)])

    def infer(self, attributes: ctypes.c_void_p) -> None:
        count = ctypes.c_int()
        ranks, dims = (ctypes.c_int * _MAX_OUTPUTS)(), (ctypes.c_int64 * (_MAX_OUTPUTS * _MAX_RANK))()
        status = self._library._library.sknet_ops_cuda_infer(
            self._op.encode(), attributes, *self._shape_arrays(self._inputs), _MAX_OUTPUTS, ctypes.byref(count), ranks,
            dims)  # fmt: skip
        self._library._check(status)
        self.output_names = []
        for name in self._outputs:
            many = name in self._spec.branch and self._branches
            self.output_names += [f"{name}[{m}]" for m in range(self._branches)] if many else [name]
        shapes = [tuple(dims[i * _MAX_RANK : i * _MAX_RANK + ranks[i]]) for i in range(count.value)]
        self.output_specs = [
            (shape, self._map_dtype if name in MAPS else "float32")
            for name, shape in zip(self.output_names, shapes, strict=True)
        ]

    def placeholders(self) -> list[Tensor]:
        return [Tensor(256, shape, dtype, None) for shape, dtype in self.output_specs]

    @staticmethod
    def _shape_arrays(tensors: list[Tensor]) -> tuple[Any, Any]:
        ranks = (ctypes.c_int * len(tensors))(*(len(t.shape) for t in tensors))
        rows = [(ctypes.c_int64 * max(len(t.shape), 1))(*t.shape) for t in tensors]
        pointers = (ctypes.POINTER(ctypes.c_int64) * len(tensors))(
            *(ctypes.cast(row, ctypes.POINTER(ctypes.c_int64)) for row in rows)
        )
        pointers.rows = rows  # kept alive with the array
        return ranks, pointers

    def buffers(self, outputs: list[Tensor]) -> tuple[Any, ...]:
        tensors = [*self._inputs, *outputs]
        pointers = (ctypes.c_void_p * len(tensors))(*(t.pointer for t in tensors))
        return (len(tensors), pointers, *self._shape_arrays(tensors))

    def named(self, outputs: list[Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in zip(self.output_names, outputs, strict=True):
            base = re.sub(r"\[\d+\]$", "", name)
            if base == name:
                result[name] = value
            else:
                result.setdefault(base, []).append(value)
        return result
