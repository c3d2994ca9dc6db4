# SPDX-License-Identifier: Apache-2.0
"""curves.png of a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sknet.files import partial_name, publish

# Panel: axis label, scale, and what it shows, as column of log.csv -> legend.
_PANELS = (
    ("loss", "linear", {"train_loss": "training", "val_loss": "validation"}),
    ("validation accuracy", "linear", {"val_top1": "top-1", "val_top5": "top-5"}),
    ("learning rate", "log", {"lr": None}),
)


def plot_curves(rows: Sequence[dict[str, str]], path: Path, title: str) -> None:
    """Draw the rows of a log.csv over the epochs, as PNG. Cells may be empty."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    for axes, (label, scale, columns) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for column, name in columns.items():
            points = [(int(row["epoch"]), float(row[column])) for row in rows if row[column]]
            if points:
                marker = "o" if len(points) < 30 else None
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=name)
                if name:
                    axes.legend()
        if scale == "log" and any(float(row["lr"]) > 0 for row in rows):
            axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    partial = partial_name(path)
    try:
        FigureCanvasAgg(figure).print_png(str(partial))
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)
