# SPDX-License-Identifier: Apache-2.0
"""Time of the native network and of its exported forms, each in a process of its own.

One after another and apart, since the thread pools of two libraries in one process get into each other's way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sknet.deploy.images import Preprocessing
from sknet.deploy.source import EXPORTED, Source

FORMS = ("native", "mindir", "onnx")


@dataclass(frozen=True)
class Timing:
    """One form at one batch size: milliseconds a call, in quantiles over all calls, and of the first call."""

    form: str
    batch: int
    median: float
    p20: float
    p80: float
    first: float
    images_per_s: float


class BenchmarkError(RuntimeError):
    """A form could not be timed; the message is its process's."""


def time_forms(
    source: Source, forms: Sequence[str], batches: Sequence[int], repeats: int, warmup: int = 3
) -> Iterator[Timing]:
    """Export what is asked for, and time form after form.

    Raises:
        MissingPackageError, ExportError: see ``export``.
        BenchmarkError: a form's process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for form in forms:
            task = {**source.notes(), "path": str(source.path) if source.path else None, "form": source.form}
            if form != source.form:
                from sknet.deploy.export import export

                suffix = next(suffix for suffix, name in EXPORTED.items() if name == form)
                task |= {"path": str(export(source, form, Path(folder, f"net{suffix}")).path), "form": form}
            task |= {"batches": list(batches), "repeats": repeats, "warmup": warmup}
            yield from _in_process(form, task)


def _in_process(form: str, task: dict[str, Any]) -> list[Timing]:
    done = subprocess.run(
        [sys.executable, "-m", "sknet.deploy.benchmark"], input=json.dumps(task), capture_output=True, text=True
    )
    if done.returncode:
        raise BenchmarkError(f"{form}: {(done.stderr.strip().splitlines() or ['ended without a word'])[-1]}")
    return [Timing(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def _measure(task: dict[str, Any]) -> list[dict[str, Any]]:
    from sknet.deploy.runner import make_runner

    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in task["preprocessing"].items()}
    source = Source(
        Path(task["path"]) if task["path"] else None,
        task["form"],
        task["model"],
        task["num_classes"],
        tuple(task["classes"]),
        Preprocessing(**settings),
    )
    run = make_runner(source)
    size, rows = source.preprocessing.image_resize, []
    for batch in task["batches"]:
        x = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
        times = []
        for _ in range(1 + task["warmup"] + task["repeats"]):
            start = time.perf_counter()
            run(x)
            times.append(1e3 * (time.perf_counter() - start))
        p20, median, p80 = np.quantile(times[1 + task["warmup"] :], [0.2, 0.5, 0.8])
        rows.append(asdict(Timing(task["form"], batch, median, p20, p80, times[0], 1e3 * batch / median)))
    return rows


if __name__ == "__main__":
    print(json.dumps(_measure(json.load(sys.stdin))))
