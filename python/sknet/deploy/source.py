# SPDX-License-Identifier: Apache-2.0
"""A trained network as files on disk: weights or an exported form, and the notes beside it.

NAME.json beside NAME.ckpt is training's sidecar, NAME.onnx.json and NAME.mindir.json are what export wrote; all tell
model, class names and preprocessing. Options win over them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sknet.config import Config, ConfigError, load_config
from sknet.data.class_names import imagenet_classes, read_class_names, spell_out
from sknet.deploy.images import Preprocessing
from sknet.models.catalog import get_spec

WEIGHTS = (".ckpt", ".safetensors")
EXPORTED = {".mindir": "mindir", ".onnx": "onnx"}


@dataclass(frozen=True)
class Source:
    """What a command works on.

    Attributes:
        path: file of the weights or of the exported form; None for a network with random weights.
        form: "native", "mindir" or "onnx".
        model: name in the catalog.
        num_classes: outputs.
        classes: names of the outputs.
        preprocessing: from photo to input.
    """

    path: Path | None
    form: str
    model: str
    num_classes: int
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def notes(self) -> dict[str, Any]:
        """What goes beside an exported form."""
        return {
            "model": self.model,
            "num_classes": self.num_classes,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.as_dict(),
        }


def notes_path(path: Path) -> Path:
    """Where the notes of an exported form are."""
    return path.with_name(path.name + ".json")


def _read_notes(path: Path, form: str) -> dict[str, Any]:
    if form == "native":
        from sknet.engine.checkpoint import read_sidecar

        return read_sidecar(path) or {}
    notes = notes_path(path)
    if not notes.is_file():
        raise ConfigError(f"ckpt_path: no {notes}, which `sknet export` writes beside {path.name} and which it needs")
    try:
        value = json.loads(notes.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"ckpt_path: {notes} is not readable JSON: {error}") from None
    if not isinstance(value, dict) or not {"model", "num_classes", "classes", "preprocessing"} <= set(value):
        raise ConfigError(f"ckpt_path: {notes} is not what `sknet export` writes")
    return value


def _recipe(config: str | None, options: dict[str, Any], notes: dict[str, Any]) -> Config:
    """Model and preprocessing: defaults, then the checkpoint's, then a recipe's, then options."""
    keys = ("model", *Preprocessing.KEYS)
    saved = {**notes.get("config", {}), **notes.get("preprocessing", {}), "model": notes.get("model")}
    values = {key: saved[key] for key in keys if saved.get(key) is not None}
    if config:
        recipe = load_config(config)
        values |= {key: getattr(recipe, key) for key in keys}
    values |= {key: value for key, value in options.items() if key in keys and value is not None}
    return load_config(None, **values)


def _outputs(path: Path) -> int:
    """Width of the classifier in a file of weights."""
    from sknet.weights import read_weights

    for name, array in read_weights(path).items():
        if name in ("classifier.weight", "fc.weight"):
            return int(array.shape[0])
    raise ConfigError(f"ckpt_path: {path} has neither classifier.weight nor fc.weight")


def _class_names(wanted: str | None, notes: dict[str, Any], count: int) -> tuple[str, ...]:
    if wanted:
        names = read_class_names(wanted)
    elif notes.get("classes"):
        names = spell_out(list(notes["classes"]))
    elif count == 1000:
        names = spell_out(list(imagenet_classes()))
    else:
        names = [f"class {i}" for i in range(count)]
    if len(names) != count:
        raise ConfigError(f"class_names: {len(names)} names, but the network has {count} classes")
    return tuple(names)


def open_source(
    path: str | os.PathLike | None,
    config: str | None = None,
    class_names: str | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> Source:
    """Find out what a file is.

    Args:
        path: .ckpt, .safetensors, .mindir or .onnx, or the address of one; None for random weights, with the model in
            options.
        config: YAML recipe to take model and preprocessing from.
        class_names: see ``read_class_names``; by default the checkpoint's own, ImageNet's for 1000 outputs, or numbers.
        num_classes: outputs of a network with random weights.
        options: model, image_resize, crop_pct, interpolation, mean, std; None where not given.

    Raises:
        ConfigError, DataError: no such file, notes that do not fit, no model named, names that do not fit.
        ValueError: a damaged file.
    """
    form, notes = "native", {}
    if path is not None:
        from sknet.weights import local_file  # MindSpore is imported late

        path = local_file(path)
        if path.suffix not in (*WEIGHTS, *EXPORTED):
            raise ConfigError(f"ckpt_path: expected a file that ends in {', '.join((*WEIGHTS, *EXPORTED))}; got {path}")
        if not path.is_file():
            raise ConfigError(f"ckpt_path: no file {path}")
        form = EXPORTED.get(path.suffix, "native")
        notes = _read_notes(path, form)
    if not (notes.get("model") or options.get("model") or config):
        where = f"nothing beside {path} tells the model" if path else "no checkpoint"
        raise ConfigError(f"model: {where}; give --model NAME, one of `sknet info`'s")
    if form != "native":
        given = [key for key in ("model", "image_resize") if options.get(key) not in (None, _noted(notes, key))]
        if given:
            raise ConfigError(f"{given[0]}: is {_noted(notes, given[0])} in {path} and cannot be changed; export anew")
    recipe = _recipe(config if form == "native" else None, options, notes)
    try:
        get_spec(recipe.model)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    count = notes.get("num_classes") if form != "native" else None
    count = count or (_outputs(path) if path else num_classes or 1000)
    names = _class_names(class_names, notes, count)
    return Source(path, form, recipe.model, count, names, Preprocessing.of(recipe))


def _noted(notes: dict[str, Any], key: str) -> Any:
    return notes["model"] if key == "model" else notes["preprocessing"][key]
