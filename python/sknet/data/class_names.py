# SPDX-License-Identifier: Apache-2.0
"""Names of the classes that a network's outputs stand for."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from sknet.data.folder import DataError, ImageFolder

IMAGENET = "imagenet"


def imagenet_classes() -> dict[str, str]:
    """The 1000 classes of ImageNet-1k in the order of the labels: {"n01440764": "tench", ...}."""
    text = (resources.files("sknet.data") / "imagenet_classes.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines())


def spell_out(names: list[str]) -> list[str]:
    """WordNet numbers of ImageNet with their names, "n01440764 tench"; all else as it is."""
    known = imagenet_classes()
    return [f"{name} {known[name]}" if name in known else name for name in names]


def _from_json(path: Path) -> list[str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"class_names: {path} is not readable JSON: {error}") from None
    if isinstance(value, dict):
        # {"0": "tench"} or Keras's {"0": ["n01440764", "tench"]}
        missing = [i for i in range(len(value)) if str(i) not in value]
        if missing:
            raise DataError(f"class_names: {path}: expected keys 0..{len(value) - 1}, but there is no {missing[0]}")
        value = [value[str(i)] for i in range(len(value))]
        value = [" ".join(v) if isinstance(v, list) and all(isinstance(p, str) for p in v) else v for v in value]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise DataError(f'class_names: {path}: expected a list of names, or {{"0": NAME, "1": NAME, ...}}')
    return value


def read_class_names(source: str | os.PathLike) -> list[str]:
    """Class names in the order of the labels.

    Args:
        source: "imagenet"; a text file with a name a line; a JSON file with a list, or with numbers as keys; or a
            folder with one folder a class, as training reads it.

    Raises:
        DataError: no such file or folder, or one that holds no names.
    """
    if str(source) == IMAGENET:
        return spell_out(list(imagenet_classes()))
    path = Path(source)
    if path.is_dir():
        return spell_out(list(ImageFolder.open(path.parent, path.name).classes))
    if not path.is_file():
        raise DataError(f"class_names: no file or folder {path}; expected one, or {IMAGENET}")
    if path.suffix == ".json":
        names = _from_json(path)
    else:
        try:
            names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise DataError(f"class_names: {path} is not text: {error}") from None
    if not names:
        raise DataError(f"class_names: {path} holds no names")
    return names
