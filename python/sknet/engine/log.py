# SPDX-License-Identifier: Apache-2.0
"""What a run tells: a progress bar where there is a terminal, lines where there is none, a CSV file, TensorBoard's."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from sknet.files import write_text


class CsvLog:
    """One row an epoch, on disk as soon as it is known. `rows` are those of a run that goes on."""

    COLUMNS = ("epoch", "step", "lr", "train_loss", "val_loss", "val_top1", "val_top5", "images_per_s", "seconds")

    def __init__(self, path: Path, rows: Sequence[dict[str, str]] = ()) -> None:
        self._path = path
        self.rows = list(rows)
        self.write()

    def add(self, **row: str) -> dict[str, str]:
        """A row that `write` will write."""
        self.rows.append({column: row.get(column, "") for column in self.COLUMNS})
        return self.rows[-1]

    def write(self) -> None:
        """Replace the file by the rows: what a kill left behind a saved state goes."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())


class TensorBoardLog:
    """Event files over the steps of the run: loss and rate now and then, and every row of the CSV file.

    Args:
        done: steps that the run had done when it was continued; what a kill left of later ones is withdrawn.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from tensorboardX import SummaryWriter

        # The suffix tells a file from one of the same second.
        self._writer = SummaryWriter(
            str(folder), purge_step=done + 1 if done else None, filename_suffix=f".{done:012d}"
        )

    def step(self, step: int, loss: float, rate: float) -> None:
        self._writer.add_scalar("step/loss", loss, step)
        self._writer.add_scalar("step/lr", rate, step)

    def row(self, row: dict[str, str]) -> None:
        for column, value in row.items():
            if value and column not in ("epoch", "step", "seconds"):
                kind, _, name = column.rpartition("_") if column.startswith("val_") else ("train", "", column)
                self._writer.add_scalar(f"{kind}/{name.removeprefix('train_')}", float(value), int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class EpochProgress:
    """Images per second, loss and learning rate of one epoch."""

    def __init__(
        self, epoch: int, epochs: int, steps: int, log_interval: int, done: int = 0, quiet: bool = False
    ) -> None:
        self._label = f"epoch {epoch}/{epochs}"
        self._steps, self._interval, self._quiet = steps, log_interval, quiet
        self._bar = tqdm(total=steps, initial=done, desc=self._label, unit="step", leave=False, disable=quiet or None)
        self._start = time.perf_counter()
        self._images = 0

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @property
    def images_per_s(self) -> float:
        return self._images / max(1e-9, time.perf_counter() - self._start)

    def update(self, step: int, images: int, loss: float, rate: float) -> None:
        """One more step, counted from 1, is done."""
        self._images += images
        text = f"{self.images_per_s:.0f} images/s, loss {loss:.4f}, lr {rate:.2e}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()
        if self._bar.disable and not self._quiet and step % self._interval == 0:
            say(f"{self._label}, step {step}/{self._steps}: {text}")


def say(text: str) -> None:
    """A line to standard output that does not tear the progress bar."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
