# SPDX-License-Identifier: Apache-2.0
"""Names of classes, from wherever they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sknet.data.class_names import imagenet_classes, read_class_names, spell_out
from sknet.data.folder import DataError


def test_imagenet() -> None:
    classes = imagenet_classes()
    assert len(classes) == len(set(classes.values())) == 1000
    assert list(classes) == sorted(classes)  # the order in which training numbers class folders
    names = read_class_names("imagenet")
    assert (names[0], names[1], names[388], names[999]) == (
        "n01440764 tench",
        "n01443537 goldfish",
        "n02510455 giant panda",
        "n15075141 toilet tissue",
    )


def test_spell_out() -> None:
    assert spell_out(["n02510455", "mine"]) == ["n02510455 giant panda", "mine"]


def test_text_json_and_folder(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "a.txt").write_text("dog\n\ncat\n")
    assert read_class_names(tmp_path / "a.txt") == ["dog", "cat"]
    for value in (["dog", "cat"], {"1": "cat", "0": "dog"}):
        (tmp_path / "a.json").write_text(json.dumps(value))
        assert read_class_names(tmp_path / "a.json") == ["dog", "cat"]
    (tmp_path / "a.json").write_text(json.dumps({"0": ["n01440764", "tench"]}))
    assert read_class_names(tmp_path / "a.json") == ["n01440764 tench"]
    assert read_class_names(photos) == ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "\n", "holds no names"),
        ("a.json", "[1]", "expected a list of names"),
        ("a.json", "{", "not readable JSON"),
        ("a.json", '{"1": "cat"}', "there is no 0"),
        ("absent.txt", None, "no file or folder"),
    ],
)
def test_bad_sources(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_class_names(tmp_path / name)
