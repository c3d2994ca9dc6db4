# SPDX-License-Identifier: Apache-2.0
"""An exported form on disk, checked against the network that it came from."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sknet.deploy.runner import NativeRunner, make_runner
from sknet.deploy.source import EXPORTED, Source, notes_path

TOLERANCE = 1e-4
CHECKED_BATCHES = (1, 3)


class ExportError(ValueError):
    """The exported form does not compute what the network computes."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file; the notes are beside it.
        difference: largest deviation of its logits from the network's, relative to the largest logit, or None if
            there is nothing here that could run it.
    """

    path: Path
    difference: float | None


def export(source: Source, form: str, path: str | os.PathLike) -> Exported:
    """Write `source`, weights on disk, as "mindir" or "onnx", with its notes, and compare the logits.

    Under its name there is never a half-written or a failed file.

    Raises:
        ValueError: not weights, or a file name of another ending.
        MissingPackageError: ONNX without the package onnx.
        ExportError: logits differ by more than TOLERANCE.
    """
    path = Path(path)
    if source.form != "native":
        raise ValueError(f"{source.path}: expected weights, .ckpt or .safetensors")
    if EXPORTED.get(path.suffix) != form:
        suffix = next(s for s, f in EXPORTED.items() if f == form)
        raise ValueError(f"output: expected a file that ends in {suffix}, got {path}")
    native = NativeRunner(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        size = source.preprocessing.image_resize
        if form == "mindir":
            from sknet.deploy.mindir import export_mindir

            export_mindir(native.net, size, partial)
        else:
            from sknet.deploy.onnx_export import to_onnx

            partial.write_bytes(to_onnx(native.net, (size, size), {"model": source.model}).SerializeToString())
        difference = None
        if form == "mindir" or importlib.util.find_spec("onnxruntime"):
            difference = _difference(source, native, form, partial)
        notes_path(path).write_text(json.dumps(source.notes(), indent=1), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path, difference)


def _difference(source: Source, native: NativeRunner, form: str, path: Path) -> float:
    runner = make_runner(dataclasses.replace(source, form=form, path=path))
    rng = np.random.default_rng(0)
    size = source.preprocessing.image_resize
    worst = 0.0
    for n in CHECKED_BATCHES:
        x = rng.standard_normal((n, 3, size, size), dtype=np.float32)
        expected, got = native(x), runner(x)
        worst = max(worst, float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max())))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the {form} form's logits differ by {worst:.1e} of the largest, more than {TOLERANCE:.0e}; not written"
        )
    return worst
