# SPDX-License-Identifier: Apache-2.0
"""Training loss and validation accuracy of several runs in one figure.

    python scripts/compare_runs.py OUT.png NAME=RUN_FOLDER [NAME=RUN_FOLDER ...]

Each run folder holds the log.csv that `sknet train` wrote. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of log.csv, numbers where there are some."""
    with (folder / "log.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def plot(runs: dict[str, list[dict[str, float]]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    for name, rows in runs.items():
        left.plot([r["epoch"] for r in rows], [r["train_loss"] for r in rows], marker="o", markersize=3, label=name)
        scored = [r for r in rows if "val_top1" in r]
        accuracy = [100 * r["val_top1"] for r in scored]
        right.plot([r["epoch"] for r in scored], accuracy, marker="o", markersize=3, label=name)
    for axes, title in ((left, "training loss"), (right, "validation accuracy, %")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN_FOLDER")
    args = parser.parse_args()
    for run in args.runs:
        name, equals, folder = run.partition("=")
        if not equals or not (Path(folder) / "log.csv").is_file():
            parser.error(f"{run}: expected NAME=RUN_FOLDER, with a log.csv in the folder")
    plot({name: read_log(Path(folder)) for name, _, folder in (run.partition("=") for run in args.runs)}, args.out)


if __name__ == "__main__":
    main()
