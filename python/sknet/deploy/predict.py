# SPDX-License-Identifier: Apache-2.0
"""Top classes of image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sknet.deploy.images import ImageError, Preprocessor, decode_image
from sknet.deploy.ranking import rank
from sknet.deploy.runner import make_runner
from sknet.deploy.source import Source


@dataclass(frozen=True)
class Prediction:
    """What the network says about one file, or why it could say nothing.

    Attributes:
        path: the file.
        top: best classes first, as ``rank`` gives them; empty if there is an error.
        error: why the file could not be read, or "".
    """

    path: Path
    top: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


def predict_files(source: Source, paths: Sequence[Path], top: int = 5, batch_size: int = 16) -> Iterator[Prediction]:
    """Predictions in the order of the files. A file that cannot be read is one with an error and stops nothing.

    Raises:
        MissingPackageError, ValueError: see ``make_runner``.
    """
    run, prepare = make_runner(source), Preprocessor(source.preprocessing)
    for start in range(0, len(paths), batch_size):
        inputs: dict[Path, np.ndarray] = {}
        errors: dict[Path, str] = {}
        chunk = paths[start : start + batch_size]
        for path in chunk:
            try:
                inputs[path] = prepare(decode_image(path))
            except (ImageError, OSError) as error:
                errors[path] = str(error)
        logits = dict(zip(inputs, run(np.stack(list(inputs.values()))), strict=True)) if inputs else {}
        for path in chunk:
            if path in errors:
                yield Prediction(path, error=errors[path])
                continue
            try:
                yield Prediction(path, rank(logits[path], source.classes, top))
            except ValueError as error:
                yield Prediction(path, error=str(error))
