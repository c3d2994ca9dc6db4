# SPDX-License-Identifier: Apache-2.0
"""Attention on the larger kernel minus attention on the smaller one, as objects are enlarged."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from sknet_ops import SelectiveKernel

SCALES = (1.0, 1.5, 2.0)


def units_of(net: nn.Cell) -> dict[str, SelectiveKernel]:
    """The SK units with at least two branches by name, in the order of the network.

    MindCV's own units count after ``sknet_ops.fuse``. SK_2_1 is the first unit of the paper's stage 2 (layer1 here).
    """
    units = {}
    for name, cell in net.cells_and_names():
        if isinstance(cell, SelectiveKernel) and cell.num_paths > 1:
            parts = name.split(".")
            stage = next((i for i, part in enumerate(parts[:-1]) if part.startswith("layer")), None)
            if stage is not None and parts[stage][5:].isdecimal() and parts[stage + 1].isdecimal():
                name = f"SK_{int(parts[stage][5:]) + 1}_{int(parts[stage + 1]) + 1}"
            units[name] = cell
    return units


class AttentionProbe:
    """Runs a network in PyNative mode and listens in on its SK units; use as a context manager.

    Raises:
        ValueError: the network has no SK unit with two branches or more.
    """

    def __init__(self, net: nn.Cell) -> None:
        self.net, self.units = net, units_of(net)
        if not self.units:
            raise ValueError("the network has no SK unit of sknet_ops; sknet_ops.fuse(net) turns MindCV's into ours")

    def __enter__(self) -> AttentionProbe:
        import mindspore as ms

        self._mode, self._training = ms.get_context("mode"), self.net.training
        ms.set_context(mode=ms.PYNATIVE_MODE)
        self.net.set_train(False)
        self._inputs: dict[str, Tensor] = {}
        self._hooks = [unit.register_forward_pre_hook(self._keep(name)) for name, unit in self.units.items()]
        return self

    def __exit__(self, *exception: object) -> None:
        import mindspore as ms

        for hook in self._hooks:
            hook.remove()
        self._inputs.clear()
        self.net.set_train(self._training)
        ms.set_context(mode=self._mode)

    def _keep(self, name: str) -> Callable[[nn.Cell, tuple[Tensor, ...]], None]:
        def hook(cell: nn.Cell, inputs: tuple[Tensor, ...]) -> None:
            self._inputs[name] = inputs[0]

        return hook

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Attention of every unit: (n, branches, channels) float32, for images (n, c, h, w) float32."""
        self.net(Tensor(images))
        return {name: unit.attention(self._inputs[name]).asnumpy() for name, unit in self.units.items()}


@dataclass(frozen=True)
class Measurement:
    """One image, one scale, one unit.

    Attributes:
        image: the file.
        label: its class.
        scale: how many times larger than as it is.
        unit: name of the SK unit.
        difference: attention on the last branch (5x5) minus attention on the first (3x3), mean over the channels.
    """

    image: str
    label: str
    scale: float
    unit: str
    difference: float


def measure(
    net: nn.Cell,
    images: Iterable[tuple[str, str, np.ndarray]],
    preprocessors: dict[float, Callable[[np.ndarray], np.ndarray]],
    batch_size: int = 16,
) -> Iterator[Measurement]:
    """Attention differences of images at every scale.

    Args:
        net: a network with SK units.
        images: (file, class, (h, w, 3) uint8) each.
        preprocessors: by scale: from such an image to (3, size, size) float32, enlarged (``Preprocessor(zoom=scale)``).
        batch_size: inputs a step.

    Raises:
        ValueError: no SK units.
    """
    with AttentionProbe(net) as probe:
        waiting: list[tuple[str, str, float, np.ndarray]] = []
        for name, label, image in images:
            waiting += [(name, label, scale, prepare(image)) for scale, prepare in preprocessors.items()]
            while len(waiting) >= batch_size:
                yield from _measured(probe, waiting[:batch_size])
                waiting = waiting[batch_size:]
        if waiting:
            yield from _measured(probe, waiting)


def _measured(probe: AttentionProbe, inputs: Sequence[tuple[str, str, float, np.ndarray]]) -> Iterator[Measurement]:
    attention = probe(np.stack([x for *_, x in inputs]))
    differences = {unit: (a[:, -1] - a[:, 0]).mean(axis=1, dtype=np.float64) for unit, a in attention.items()}
    for i, (name, label, scale, _) in enumerate(inputs):
        for unit, difference in differences.items():
            yield Measurement(name, label, scale, unit, float(difference[i]))


def summarise(measurements: Iterable[Measurement]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the images of a class: rows of unit, scale, label, images, mean, std."""
    groups: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for m in measurements:
        groups[m.unit, m.scale, m.label].append(m.difference)
    return [
        {"unit": unit, "scale": scale, "label": label, "images": len(v), "mean": np.mean(v), "std": np.std(v)}
        for (unit, scale, label), v in groups.items()
    ]


def write_csv(rows: Sequence[dict[str, Any] | Measurement], path: Path) -> None:
    """A file with a line a row, and the names of the columns first."""
    dicts = [asdict(row) if isinstance(row, Measurement) else row for row in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dicts[0]))
        writer.writeheader()
        writer.writerows(dicts)
