# SPDX-License-Identifier: Apache-2.0
"""What is measured: a shape from a data file, a batch size, forward or training, warm or cold cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).resolve().parents[1] / "shapes"
MODES = ("forward", "train", "step")
CACHES = ("warm", "cold")

# Fields that a shape of each kind has.
FIELDS: dict[str, tuple[str, ...]] = {
    "sk_layer": ("c_in", "c_out", "hw", "stride", "groups", "split_input", "c_reduced"),
    "conv_bn_act": ("c_in", "c_out", "hw", "kernel", "stride", "relu", "residual"),
    "network": ("block", "layers", "groups", "base_width", "rd_ratio", "rd_divisor", "split_input", "pool",
                "relu_after_conv1", "size", "macs", "params"),
}  # fmt: skip


class Unsupported(Exception):
    """A contestant does not have this case; the message says why."""


@dataclass(frozen=True)
class Case:
    """`mode`: "forward" (inference), "train" (forward and backward of one layer in training mode) or "step" (a
    network's training step with loss and optimizer)."""

    kind: str
    family: str  # the shape file
    shape: dict[str, Any]
    batch: int
    mode: str = "forward"
    cache: str = "warm"

    @property
    def id(self) -> str:
        return f"{self.family}/{self.shape['name']}/{self.mode}/b{self.batch}/{self.cache}"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the forward result."""
        s = self.shape
        if self.kind == "network":
            return (self.batch, 1000)
        size = -(-s["hw"] // s["stride"])
        return (self.batch, s["c_out"], size, size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        s = self.shape
        if self.kind == "network":
            return (self.batch, 3, s["size"], s["size"])
        return (self.batch, s["c_in"], s["hw"], s["hw"])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        return cls(**fields)


def load_shapes(family: str) -> tuple[str, list[dict[str, Any]]]:
    """(kind, shapes) of benchmarks/shapes/<family>.json.

    Raises:
        ValueError: A field that is missing or too much, or a name that is there twice.
    """
    content = json.loads((SHAPES / f"{family}.json").read_text())
    kind, shapes = content["kind"], content["shapes"]
    expected = {"name", *FIELDS[kind]}
    for shape in shapes:
        if set(shape) != expected:
            raise ValueError(
                f"{family}.json: {shape.get('name')}: got fields {sorted(shape)}, expected {sorted(expected)}"
            )
    names = [shape["name"] for shape in shapes]
    if len(set(names)) != len(names):
        raise ValueError(f"{family}.json: got names {names}, expected each once")
    return kind, shapes


def families() -> list[str]:
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def cases(
    family: str, batches: tuple[int, ...], mode: str = "forward", cache: str = "warm", names: tuple[str, ...] = ()
) -> list[Case]:
    """Cases of one shape file; `names` picks some of its shapes, in that order."""
    kind, shapes = load_shapes(family)
    if names:
        by_name = {shape["name"]: shape for shape in shapes}
        shapes = [by_name[name] for name in names]
    return [Case(kind, family, shape, batch, mode, cache) for shape in shapes for batch in batches]


# ---- costs ----


def tensor_shapes(case: Case) -> tuple[str, list[tuple[int, ...]]]:
    """(op, shapes of its inputs and outputs) of the forward op of a layer, as sknet_ops.costs takes them."""
    s, n = case.shape, case.batch
    training = case.mode == "train"
    y, x, c = case.output_shape, case.input_shape, case.shape["c_out"]
    if case.kind == "conv_bn_act":
        shapes = [x, (c, s["c_in"], s["kernel"], s["kernel"])] + [(c,)] * 4 + [y] * s["residual"] + [y]
        return "conv_bn_act", shapes + ([y, (c,), (c,)] if training else [])
    branch_in = s["c_in"] // 2 if s["split_input"] else s["c_in"]
    weight, reduced = (c, branch_in // s["groups"], 3, 3), s["c_reduced"]
    shapes = [x] + [weight] * 2 + [(c,)] * 8 + [(reduced, c)] + [(reduced,)] * 4 + [(2 * c, reduced)]
    shapes += [y, (n, 2, c)]
    if training:
        shapes += [(n, 2, c, *y[2:]), (2, c), (2, c), (n, c), (n, reduced), (reduced,), (reduced,)]
    return "selective_kernel", shapes


def cost(case: Case) -> tuple[int, int]:
    """(flops, bytes) at the least. Training counts the backward pass too: three times the arithmetic, and twice the
    traffic (it reads what the forward pass wrote and writes gradients of what that read). A network's bytes are its
    parameters, input and output."""
    if case.kind == "network":
        moved = 4 * (case.shape["params"] + prod(case.input_shape) + prod(case.output_shape))
        flops = 2 * case.shape["macs"] * case.batch
    else:
        from sknet_ops import costs  # needs MindSpore, which a peer's environment does not have

        flops, moved = costs.cost(*tensor_shapes(case))
    return (flops, moved) if case.mode == "forward" else (3 * flops, 2 * moved)
