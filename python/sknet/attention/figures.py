# SPDX-License-Identifier: Apache-2.0
"""The paper's two pictures of attention. Colours: a sequence from light (as it is) to dark (enlarged most)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sknet.attention.measure import Measurement
from sknet.deploy.optional import require

_LABEL = "attention on 5x5 minus 3x3"


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _colours(count: int) -> Any:
    matplotlib = require("matplotlib", "deploy")
    return matplotlib.colormaps["viridis_r"](np.linspace(0.2, 0.95, count))


def _figure(panels: int, title: str) -> tuple[Any, list[Any]]:
    """A figure of its own, without pyplot's state and without a display."""
    require("matplotlib", "deploy")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[panels:]:
        axis.remove()
    figure.suptitle(title)
    return figure, axes[:panels]


def plot_by_class(rows: Sequence[dict[str, Any]], path: Path | None = None, title: str = "") -> Any:
    """Means by unit over all classes, then class by class for every unit, a line a scale (the paper's figures 3, 4).

    Args:
        rows: of ``summarise``.
        path: PNG file to write; the figure is returned either way.
        title: above it.
    """
    units, scales = _distinct([r["unit"] for r in rows]), _distinct([r["scale"] for r in rows])
    labels = sorted({r["label"] for r in rows})
    mean = {(r["unit"], r["scale"], r["label"]): r["mean"] for r in rows}
    figure, axes = _figure(1 + len(units), title)
    for scale, colour in zip(scales, _colours(len(scales)), strict=True):
        overall = [np.mean([mean[unit, scale, label] for label in labels]) for unit in units]
        axes[0].plot(range(len(units)), overall, "o-", color=colour, label=f"{scale:g} x")
        for axis, unit in zip(axes[1:], units, strict=True):
            values = [mean[unit, scale, label] for label in labels]
            axis.plot(range(len(labels)), values, ".-", color=colour, linewidth=1, markersize=4)
    axes[0].set(title="mean of all classes", ylabel=_LABEL)
    axes[0].set_xticks(range(len(units)), units, rotation=90, fontsize=7)
    axes[0].legend(title="object enlarged")
    for axis, unit in zip(axes[1:], units, strict=True):
        axis.set(title=unit, xlabel="class")
        if len(labels) <= 12:
            axis.set_xticks(range(len(labels)), [label[:12] for label in labels], rotation=90, fontsize=7)
    return _finished(figure, axes, path)


def plot_by_image(measurements: Sequence[Measurement], path: Path | None = None, title: str = "") -> Any:
    """Distribution over the images, for every unit and scale: box of the quartiles, whiskers, and all images as points.

    Args, result: as in ``plot_by_class``.
    """
    units, scales = _distinct([m.unit for m in measurements]), _distinct([m.scale for m in measurements])
    groups: dict[tuple[str, float], list[float]] = {}
    for m in measurements:
        groups.setdefault((m.unit, m.scale), []).append(m.difference)
    figure, axes = _figure(len(units), title)
    rng = np.random.default_rng(0)
    for axis, unit in zip(axes, units, strict=True):
        values = [groups[unit, scale] for scale in scales]
        axis.boxplot(values, positions=range(len(scales)), widths=0.5, showfliers=False)
        for i, (points, colour) in enumerate(zip(values, _colours(len(scales)), strict=True)):
            axis.scatter(i + rng.uniform(-0.2, 0.2, len(points)), points, s=4, color=colour, alpha=0.6)
        axis.set(title=unit)
        axis.set_xticks(range(len(scales)), [f"{scale:g} x" for scale in scales])
    axes[0].set_ylabel(_LABEL)
    return _finished(figure, axes, path)


def _finished(figure: Any, axes: Sequence[Any], path: Path | None) -> Any:
    for axis in axes:
        axis.axhline(0, color="grey", linewidth=0.5)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
