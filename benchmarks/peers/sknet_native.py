# SPDX-License-Identifier: Apache-2.0
"""Our kernels alone, on NumPy arrays, without MindSpore."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness.cases import Case, Unsupported

ROOT = Path(__file__).resolve().parents[2]


@cache
def native() -> ModuleType:
    """sknet_ops._native, loaded directly, as `import sknet_ops` would bring MindSpore.

    SKNET_OPS_NATIVE names the folder of another build.
    """
    folder = Path(os.environ.get("SKNET_OPS_NATIVE", ROOT / "sknet_ops"))
    path = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location("sknet_ops._native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def why_not() -> str | None:
    try:
        native()
    except ImportError as error:
        return f"sknet_ops._native does not load ({error}): pip install -e ."
    return None


def versions() -> dict[str, str]:
    return {"isa": native().active_isa(), "threads": str(native().num_threads())}


def variants(case: Case, threads: int) -> dict[str, Callable[[], Callable[[], dict[str, Any]]]]:
    if case.kind == "network":
        raise Unsupported("a network needs MindSpore")
    native().set_num_threads(threads)
    make = _conv_bn_act if case.kind == "conv_bn_act" else _selective_kernel
    return {"": lambda: make(case)}


def to_numpy(result: dict[str, Any]) -> np.ndarray:
    return result["dx"] if "dx" in result else result["y"]


def _norm(rng: np.random.Generator, channels: int) -> dict[str, np.ndarray]:
    def of(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, channels).astype(np.float32)

    return {"gamma": of(0.5, 1.5), "beta": of(-0.5, 0.5), "moving_mean": of(-0.1, 0.1), "moving_variance": of(0.5, 1.5)}


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    scale = np.prod(shape[1:]) ** -0.5 if len(shape) in (2, 4) else 1.0
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def _input(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def conv_bn_act_arguments(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, attributes)."""
    rng, s = np.random.default_rng(0), case.shape
    tensors = {
        "x": _input(rng, case.input_shape),
        "weight": _normal(rng, s["c_out"], s["c_in"], s["kernel"], s["kernel"]),
        **_norm(rng, s["c_out"]),
    }
    if s["residual"]:
        tensors["residual"] = _input(rng, case.output_shape)
    return tensors, {"stride": s["stride"], "padding": s["kernel"] // 2, "relu": s["relu"]}


def selective_kernel_arguments(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, attributes)."""
    rng, s = np.random.default_rng(0), case.shape
    c, reduced = s["c_out"], s["c_reduced"]
    branch_in = s["c_in"] // 2 if s["split_input"] else s["c_in"]
    norms = [_norm(rng, c) for _ in range(2)]
    tensors: dict[str, Any] = {name: [norm[name] for norm in norms] for name in norms[0]}
    tensors["x"] = _input(rng, case.input_shape)
    tensors["weight"] = [_normal(rng, c, branch_in // s["groups"], 3, 3) for _ in range(2)]
    tensors["fc_reduce"], tensors["fc_select"] = _normal(rng, reduced, c), _normal(rng, 2 * c, reduced)
    tensors |= {f"attn_{name}": value for name, value in _norm(rng, reduced).items()}
    attributes = {"padding": [1, 2], "dilation": [1, 2]}
    attributes |= {name: s[name] for name in ("stride", "groups", "split_input")}
    return tensors, attributes


def _conv_bn_act(case: Case) -> Callable[[], dict[str, Any]]:
    tensors, attributes = conv_bn_act_arguments(case)
    op = native().conv_bn_act
    if case.mode == "forward":  # frozen, as sknet_mindspore's layers are
        kept = native().Kept()
        return lambda: op(**tensors, **attributes, kept=kept)
    grad, dy = native().conv_bn_act_grad, _input(np.random.default_rng(1), case.output_shape)
    inputs = {name: value for name, value in tensors.items() if name != "residual"}

    def train() -> dict[str, Any]:
        saved = op(**tensors, **attributes, training=True)
        return grad(dy=dy, **inputs, **saved, residual="residual" in tensors, **attributes, training=True)

    return train


def _selective_kernel(case: Case) -> Callable[[], dict[str, Any]]:
    tensors, attributes = selective_kernel_arguments(case)
    op, grad = native().selective_kernel, native().selective_kernel_grad
    if case.mode == "forward":
        kept = native().Kept()
        return lambda: op(**tensors, **attributes, kept=kept)
    dy = _input(np.random.default_rng(1), case.output_shape)

    def train() -> dict[str, Any]:
        saved = op(**tensors, **attributes, training=True)
        saved.pop("y")
        return grad(dy=dy, **tensors, **saved, **attributes, training=True)

    return train
