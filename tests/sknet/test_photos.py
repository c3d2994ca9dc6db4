# SPDX-License-Identifier: Apache-2.0
"""validate, predict and attention on 200 photos of ImageNet's classes: the pipeline and which number is which class.

The weights are random: what the network says about a photo means nothing, but the commands must agree on it.
"""

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from sknet import create_model
from sknet.cli import main
from sknet.config import Config
from sknet.data.class_names import imagenet_classes
from sknet.data.folder import DataError, ImageFolder
from sknet.data.pipeline import train_batches
from sknet.engine.evaluate import class_names

from tests.deploy.networks import vary

MODEL = ("--model", "sknet_tiny", "--image_resize", "32", "--batch_size", "50")


@pytest.fixture(scope="module")
def root(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_DIR whose val holds the photos, one of each of 200 classes."""
    archive = shared_dir / "data" / "imagenet_sample.tar"
    if not archive.is_file():
        pytest.skip(f"no file {archive}")
    folder = tmp_path_factory.mktemp("photos")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / "imagenet_sample").rename(folder / "val")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with 1000 outputs and nothing beside that names them, as a download comes."""
    ms.set_seed(0)
    net = create_model("sknet_tiny")
    vary(net, 3)
    path = tmp_path_factory.mktemp("weights") / "net.ckpt"
    ms.save_checkpoint(net, str(path))
    return path


@pytest.fixture(autouse=True)
def graph(graph_mode: None) -> Iterator[None]:
    yield


def test_commands_agree(root: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *MODEL, "--data_dir", str(root), "--ckpt_path", str(checkpoint)]) == 0
    said = capsys.readouterr().out.splitlines()[0]

    out, model = tmp_path / "out.json", MODEL[:4]
    options = ["--class_names", "imagenet", "--top", "1000", "--format", "json", "--output", str(out)]
    predict = ["predict", str(root / "val"), *MODEL, "--ckpt_path", str(checkpoint), *options]
    assert main(predict) == 0
    rows = json.loads(out.read_text())
    assert len(rows) == 200
    numbers = {name: i for i, name in enumerate(imagenet_classes())}
    ranks, losses = [], []
    for row in rows:
        folder = Path(row["image"]).parent.name
        (rank,) = (i for i, guess in enumerate(row["top"]) if guess["class"].split()[0] == folder)
        assert row["top"][rank]["index"] == numbers[folder]
        ranks.append(rank)
        losses.append(-np.log(row["top"][rank]["probability"]))
    top1, top5 = (100 * np.mean(np.array(ranks) < n) for n in (1, 5))
    assert said.startswith(f"sknet_tiny, 200 images: top-1 {top1:.2f} %, top-5 {top5:.2f} %, loss ")
    assert abs(float(said.split()[-1]) - np.mean(losses)) < 1e-3
    assert np.std(losses) > 0.5  # the network tells photos apart

    figures = tmp_path / "attention"
    command = ["attention", str(root / "val"), *model, "--ckpt_path", str(checkpoint), "--output", str(figures)]
    assert main([*command, "--scales", "1", "1.5"]) == 0
    with (figures / "by_class.csv").open() as file:
        classes = {row["label"] for row in csv.DictReader(file)}
    assert classes == {path.name for path in (root / "val").iterdir()}
    assert all((figures / name).stat().st_size > 5000 for name in ("by_class.png", "by_image.png"))


def test_a_part_of_imagenet_keeps_its_numbers(root: Path, image_folder) -> None:
    classes = class_names(Config(data_dir=str(root)), Path("net.ckpt"))
    assert classes == tuple(imagenet_classes())
    labels = set(ImageFolder.open(root, "val", classes).samples()[1].tolist())
    assert len(labels) == 200 and max(labels) > 900
    # A network with an output a folder has the numbers of the folders.
    assert class_names(Config(data_dir=str(root), num_classes=200), Path("net.ckpt")) is None
    assert class_names(Config(data_dir=str(image_folder({"val": 1}))), Path("net.ckpt")) is None


def test_photos_augmented(root: Path) -> None:
    """All transforms on photos of all sizes."""
    config = Config(
        batch_size=50, image_resize=64, auto_augment="randaug-m9-mstd0.5", re_prob=0.3, mixup=0.2, cutmix=1.0
    )
    images, targets = next(iter(train_batches(config, ImageFolder.open(root, "val"), 1)))
    assert images.shape == (50, 3, 64, 64) and targets.shape == (50, 200)
    assert np.isfinite(images).all() and abs(images.mean()) < 1 and 0.5 < images.std() < 2
    with pytest.raises(DataError, match="has no folder 'train'; it has val"):
        ImageFolder.open(root, "train")
