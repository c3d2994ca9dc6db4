# SPDX-License-Identifier: Apache-2.0
"""From YAML and command line to a Config: defaults, then the file, then the options, which win."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sknet.config.options import Config, ConfigError

_FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _to_bool(value: Any) -> bool:
    # Not bool(): that makes True of "False".
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ValueError("True or False")


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError("a whole number")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError("a whole number") from None


def _to_float(value: Any) -> float:
    # YAML 1.1 takes 1e-4, without a dot, for text.
    if isinstance(value, bool):
        raise ValueError("a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("a finite number")
    return number


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _to_floats(value: Any, count: int | None) -> tuple[float, ...]:
    """`count` numbers, or None: as many as there are, a single one without brackets among them."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,\[\]()]+", value) if part]
    if count is None:
        value = () if value is None else value if isinstance(value, (list, tuple)) else [value]
    elif not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{count} numbers")
    return tuple(_to_float(v) for v in value)


def _to_ints(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,\[\]()]+", value) if part]
    if not isinstance(value, (list, tuple)):
        raise ValueError("whole numbers")
    return tuple(_to_int(v) for v in value)


_SCALARS = {"bool": _to_bool, "int": _to_int, "float": _to_float, "str": _to_str}


def convert(key: str, value: Any) -> Any:
    """A value of YAML or of the command line as the option's type. ConfigError if it is not one."""
    kind = _FIELDS[key].type
    try:
        if kind.endswith(" | None"):
            return None if value in (None, "", "None", "null") else _SCALARS[kind.removesuffix(" | None")](value)
        if kind == "tuple[int, ...]":
            return _to_ints(value)
        if kind.startswith("tuple"):
            return _to_floats(value, None if kind.endswith("...]") else kind.count("float"))
        return _SCALARS[kind](value)
    except ValueError as error:
        raise ConfigError(f"{key}: expected {error}, got {value!r}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"config: no file {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not readable YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config: {path}: expected lines of 'key: value', got {type(values).__name__}")
    for key in values:
        if key not in _FIELDS:
            raise ConfigError(f"config: {path}: unknown key {str(key)!r}{_nearest(str(key), _FIELDS)}")
    return values


def load_config(path: str | os.PathLike | None = None, **overrides: Any) -> Config:
    """A checked recipe from a YAML file (or the defaults) and single values that win over it.

    Mixed precision that only the file asks for is given up, with a note, on a device that has none.

    Raises:
        ConfigError: no such file, unknown key (with the nearest known one), or a value that does not fit.
    """
    values = _read_yaml(Path(path)) if path else {}
    for key, value in overrides.items():
        if key not in _FIELDS:
            raise ConfigError(f"unknown key {key!r}{_nearest(key, _FIELDS)}")
        values[key] = value
    config = Config(**{key: convert(key, value) for key, value in values.items()})
    if "amp_level" not in overrides:
        config.without_mixed_precision(str(path))
    config.check()
    return config


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def build_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """All options, in MindCV's groups, and -c."""
    parser = _Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=110),
    )
    parser.add_argument("-c", "--config", default=None, metavar="FILE", help="YAML recipe; options win over it")
    groups: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        meta = field.metadata
        group = groups.setdefault(meta["group"], None) or parser.add_argument_group(meta["group"])
        groups[meta["group"]] = group
        kind = field.type.removesuffix(" | None")
        extra = {"nargs": "+"} if kind.startswith("tuple") else {}
        if kind == "bool":
            extra = {"nargs": "?", "const": "True"}
        metavar = "True|False" if kind == "bool" else ("X" if kind.startswith("tuple") else kind.upper())
        choices = f" ({', '.join(map(str, meta['choices']))})" if meta["choices"] else ""
        group.add_argument(
            f"--{name}",
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=f"{meta['help']}{choices} [{field.default}]",
            **extra,
        )
    return parser


def parse_args(argv: list[str], prog: str, description: str) -> Config:
    """A checked recipe from the command line.

    Raises:
        ConfigError: as in load_config; an unknown option also names the nearest.
    """
    known, rest = build_parser(prog, description).parse_known_args(argv)
    if rest:
        options = ["--config", *(f"--{name}" for name in _FIELDS)]
        word = rest[0].split("=")[0]
        raise ConfigError(f"unknown option {word!r}{_nearest(word, options) if word.startswith('-') else ''}")
    values = vars(known)
    path = values.pop("config")
    options = {k: " ".join(v) if isinstance(v, list) else v for k, v in values.items()}
    return load_config(path, **options)


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Write every key with its resolved value, as YAML that load_config reads, under the notes as comments."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    notes = "".join(f"# {note}\n" for note in config.notes)
    Path(path).write_text(notes + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
