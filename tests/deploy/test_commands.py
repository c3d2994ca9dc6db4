# SPDX-License-Identifier: Apache-2.0
"""predict, export, benchmark and attention, as typed."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sknet.cli import main
from sknet.cli.source_options import user_errors
from sknet.config import load_config
from sknet.data.folder import ImageFolder
from sknet.data.pipeline import eval_batches
from sknet.deploy.runner import make_runner
from sknet.deploy.source import open_source

from tests.conftest import ROOT
from tests.deploy.networks import CLASSES


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit status, standard output and standard error of a command."""

    def command(*argv: object) -> tuple[int, str, str]:
        status = main([str(word) for word in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_predict_says_what_validation_computes(run: Callable, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ("--ckpt_path", checkpoint, "--batch_size", 4, "--top", 2, "--format", "json", "--output", out)
    assert run("predict", photos, *options) == (0, "", "")
    rows = json.loads(out.read_text())

    config = load_config(None, image_resize=16, crop_pct=0.8, interpolation="bicubic", batch_size=64)
    folder = ImageFolder.open(photos.parent, photos.name)
    ((x, _),) = eval_batches(config, folder).create_tuple_iterator(num_epochs=1, output_numpy=True)
    logits = make_runner(open_source(checkpoint))(x).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [row["image"] for row in rows] == sorted(str(path) for path in photos.rglob("*.*"))
    for row, expected in zip(rows, probabilities, strict=True):
        order = np.argsort(-expected)[:2]
        assert [best["index"] for best in row["top"]] == order.tolist()
        assert [best["class"] for best in row["top"]] == [CLASSES[i] for i in order]
        np.testing.assert_allclose([best["probability"] for best in row["top"]], expected[order], rtol=1e-5)


def test_predict_names_bad_images(run: Callable, checkpoint: Path, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"nothing")
    status, out, err = run("predict", photos, "--ckpt_path", checkpoint, "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert status == 0
    assert len(rows) == 9 * 3 + 1
    (bad,) = (row for row in rows if row["error"])
    assert bad["image"].endswith("bad.png") and bad["class"] == ""
    assert "bad.png: not an image" in err
    assert "1 of 10 images could not be read" in err

    status, out, err = run("predict", photos / "bad.png", "--ckpt_path", checkpoint)
    assert status == 1
    assert "no image could be read" in err


def test_class_names_of_choice(run: Callable, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\n")
    status, out, _ = run("predict", photos / "ant/0.png", "--ckpt_path", checkpoint, "--class_names", names)
    assert status == 0
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {"one", "two", "three"}
    names.write_text("one\n")
    _, _, err = run("predict", photos / "ant/0.png", "--ckpt_path", checkpoint, "--class_names", names)
    assert "class_names: 1 names, but the network has 3 classes" in err


def test_weights_without_sidecar(run: Callable, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.ckpt"
    shutil.copy(checkpoint, bare)
    status, _, err = run("predict", photos, "--ckpt_path", bare)
    assert (status, "give --model NAME" in err) == (1, True)
    options = ("--model", "sknet_tiny", "--image_resize", 16, "--mean", 120, 120, 120)
    status, out, _ = run("predict", photos / "ant/0.png", "--ckpt_path", bare, *options)
    assert status == 0
    assert "class 0" in out


def test_recipe_of_training(run: Callable, checkpoint: Path, photos: Path) -> None:
    """MindCV's own, too, whose distribution is of no concern here, and whose mixed precision is float32 on CPU."""
    recipe = ROOT / "python" / "configs" / "sknet" / "skresnet18_ascend.yaml"
    options = ("-c", recipe, "--model", "sknet_tiny", "--image_resize", 16, "--crop_pct", 0.8)
    status, out, err = run("predict", photos, "--ckpt_path", checkpoint, *options)
    without = run("predict", photos, "--ckpt_path", checkpoint)
    assert (status, out) == without[:2]
    note = f"amp_level: O2 in {recipe}, but device_target CPU has no mixed precision: computing in float32 (O0)"
    assert set(err.splitlines()) - set(without[2].splitlines()) == {note}


def test_export_then_predict(run: Callable, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    output = tmp_path / "net.onnx"
    status, out, _ = run("export", "--ckpt_path", checkpoint, "--format", "onnx", "--output", output)
    assert status == 0
    assert "checked: the logits differ" in out
    expected = run("predict", photos, "--ckpt_path", checkpoint)
    assert run("predict", photos, "--ckpt_path", output) == expected
    _, _, err = run("predict", photos, "--ckpt_path", output, "--image_resize", 20)
    assert "image_resize: is 16" in err


def test_benchmark(run: Callable, checkpoint: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    options = ("--forms", "native", "onnx", "--batch_size", 1, 2, "--repeats", 3, "--format", "json")
    status, out, err = run("benchmark", "--ckpt_path", checkpoint, *options)
    assert status == 0, err
    rows = json.loads(out)
    assert [(row["form"], row["batch"]) for row in rows] == [(f, b) for f in ("native", "onnx") for b in (1, 2)]
    assert all(0 < row["p20"] <= row["median"] <= row["p80"] for row in rows)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["predict", "x.png", "--ckpt_path", "absent.ckpt"], "no file or folder x.png"),
        (["predict", "PHOTOS", "--ckpt_path", "absent.ckpt"], "ckpt_path: no file absent.ckpt"),
        (["predict", "PHOTOS", "--ckpt_path", "net.pt"], "expected a file that ends in .ckpt"),
        (["predict", "PHOTOS"], "required: --ckpt_path"),
        (["predict", "PHOTOS", "--ckpt_path", "x.ckpt", "--top", "0"], "expected at least 1, got 0"),
        (["predict", "PHOTOS", "--ckpt_path", "x.ckpt", "--mean", "1", "a", "2"], "mean: expected a number"),
        (["export", "--ckpt_path", "x.ckpt"], "required: --format"),
        (["benchmark"], "give --model NAME"),
        (["benchmark", "--model", "skresnet19"], "unknown model 'skresnet19': did you mean"),
        (["attention", "PHOTOS", "--model", "sknet_tiny", "--scales", "1", "1"], "expected distinct numbers"),
        (["attention", "PHOTOS", "--model", "sknet_tiny", "--scales", "0.5"], "expected 1..10, got 0.5"),
        (["serve", "--ckpt_path", "x.ckpt", "--port", "70000"], "expected 0..65535"),
    ],
)
def test_user_errors(argv: list[str], words: str, run: Callable, photos: Path) -> None:
    status, _, err = run(*(photos if word == "PHOTOS" else word for word in argv))
    assert status == 1
    assert err.startswith(f"sknet {argv[0]}: error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_reader_that_has_seen_enough() -> None:
    """`sknet predict FOLDER | head` is no error of the user's: the command ends as `main` lets it."""
    with pytest.raises(BrokenPipeError), user_errors():
        raise BrokenPipeError


def test_attention(run: Callable, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (photos / "bee" / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "figures"
    status, _, err = run("attention", photos, "--ckpt_path", checkpoint, "--output", out, "--batch_size", 5)
    assert status == 0
    assert "1 of 10 images could not be read" in err
    for name in ("by_class.png", "by_image.png"):
        with Image.open(out / name) as image:
            assert np.ptp(np.asarray(image.convert("L"))) > 100
    by_image = list(csv.DictReader((out / "by_image.csv").open()))
    by_class = list(csv.DictReader((out / "by_class.csv").open()))
    assert len(by_image) == 9 * 3 * 3  # images, scales, units
    assert len(by_class) == 3 * 3 * 3  # classes, scales, units
    for row in by_class:
        same = [float(r["difference"]) for r in by_image if all(r[k] == row[k] for k in ("unit", "scale", "label"))]
        assert len(same) == int(row["images"]) == 3
        assert float(row["mean"]) == pytest.approx(np.mean(same))
    assert {row["scale"] for row in by_class} == {"1.0", "1.5", "2.0"}
