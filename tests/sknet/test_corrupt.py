# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read: an error that names the file, or skipped, named and counted."""

import logging
from pathlib import Path

import numpy as np
import pytest
from sknet.config import Config
from sknet.data.folder import DataError, ImageFolder
from sknet.data.loader import warn_of_unreadable
from sknet.data.pipeline import eval_batches, iterate, train_batches
from sknet.engine.trainer import Trainer


def config(**values) -> Config:
    return Config(**{"batch_size": 4, "image_resize": 16, "num_parallel_workers": 2, "corrupt": "skip", **values})


def damage(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        file = root / name
        file.write_bytes(file.read_bytes()[: 80 if number else 0])


@pytest.fixture
def damaged(image_folder) -> Path:
    """18 images a split, of which two and three are damaged; the first of each is empty."""
    root = image_folder({"train": 9, "val": 9})
    damage(root, "train/b/002.png", "train/a/005.png")
    damage(root, "val/a/008.png", "val/b/001.png", "val/b/004.png")
    return root


def test_training_replaces_them(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ImageFolder.open(damaged, "train")

    def epoch(first: int = 0, **values) -> list:
        return list(train_batches(config(shuffle=False, drop_remainder=False, **values), folder, 1).starting_at(first))

    whole = epoch()
    assert [len(x) for x, _ in whole] == [4, 4, 4, 4, 2]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "epoch 1: replaced by others: 2 images could not be read" in messages[0]
    assert "train/a/005.png: " in messages[0] and "train/b/002.png: cannot identify" in messages[0]

    late = epoch(first=1, num_parallel_workers=1)
    for (x, y), (again, labels) in zip(whole[1:], late, strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)
    images = np.concatenate([x for x, _ in whole])
    labels = np.concatenate([y for _, y in whole])
    # Brightness tells the class: the label is that of the image that is there.
    level = images.mean(axis=(1, 2, 3))
    assert set(labels[level < 0]) == {0} and set(labels[level > 0]) == {1}
    # All others are where they were.
    sound = [i for i in range(18) if i not in (5, 11)]
    np.testing.assert_array_equal(labels[sound], [0] * 8 + [1] * 8)


def test_a_sound_folder_is_not_changed_by_skip(image_folder, caplog: pytest.LogCaptureFixture) -> None:
    folder = ImageFolder.open(image_folder({"train": 4, "val": 5}), "train")
    val = ImageFolder.open(folder.path.parent, "val")
    for make, split in ((lambda c, f: train_batches(c, f, 1), folder), (lambda c, f: iterate(eval_batches(c, f)), val)):
        skip, error = (list(make(config(corrupt=how), split)) for how in ("skip", "error"))
        for (x, y), (other, labels) in zip(skip, error, strict=True):
            np.testing.assert_array_equal(x, other)
            np.testing.assert_array_equal(y, labels)
    assert not caplog.records


def test_validation_leaves_them_out(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    import mindspore.dataset as ds

    folder = ImageFolder.open(damaged, "val")
    batches = list(iterate(eval_batches(config(), folder)))
    assert [len(x) for x, _ in batches] == [4, 4, 4, 3]
    assert np.concatenate([y for _, y in batches]).tolist() == [0] * 8 + [1] * 7
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "val: left out: 3 images could not be read" in record.getMessage()
    reasons = "Input Tensor has no data.", "Decode: image decode failed.", "Decode: image decode failed."
    for name, reason in zip(("val/a/008.png", "val/b/001.png", "val/b/004.png"), reasons, strict=True):
        assert f"{name}: {reason}" in record.getMessage()
    # Only those pipelines skip: others still fail.
    assert ds.config.get_error_samples_mode() == ds.config.ErrorSamplesMode.RETURN
    with pytest.raises(DataError, match=r"val/[ab]/00\d.png: cannot be read"):
        list(iterate(eval_batches(config(corrupt="error"), folder)))


def test_nothing_to_read(image_folder) -> None:
    root = image_folder({"train": 2, "val": 2})
    damage(root, *(f"{split}/{name}/00{i}.png" for split in ("train", "val") for name in "ab" for i in range(2)))
    with pytest.raises(DataError, match=r"train: of 21 images none could be read"):
        list(train_batches(config(), ImageFolder.open(root, "train"), 1))
    with pytest.raises(DataError, match=r"val: none of 4 images could be read"):
        list(iterate(eval_batches(config(), ImageFolder.open(root, "val"))))


@pytest.mark.parametrize(
    ("values", "removed", "words"),
    [
        ({"num_classes": 1000}, None, "num_classes: 1000 given, but .*train has 2 class folders; give --num_classes 2"),
        ({"val_split": "test"}, None, "has no folder 'test'; it has train, val"),
        ({}, "train/b", "data_dir: no image in .*train/b"),
        ({}, "val/a", "data_dir: no image in .*val/a"),
        ({"batch_size": 64}, None, "batch_size: 64, but .*train has only 4 images"),
    ],
)
def test_errors_before_the_first_step(
    image_folder, monkeypatch: pytest.MonkeyPatch, values: dict, removed: str | None, words: str
) -> None:
    root = image_folder({"train": 2, "val": 2})
    if removed:
        for file in (root / removed).iterdir():
            file.unlink()
    monkeypatch.setattr("sknet.models.create_model", lambda *args, **kwargs: pytest.fail("a model was built"))
    with pytest.raises(DataError, match=words):
        Trainer(config(data_dir=str(root), corrupt="error", **values))


def test_long_lists_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unreadable("epoch 2", {f"{i:02d}.png": "broken" for i in range(25)})
    message = caplog.records[0].getMessage()
    assert message.startswith("epoch 2: 25 images could not be read: 00.png: broken; 01.png")
    assert message.endswith("09.png: broken; and 15 more")
    warn_of_unreadable("epoch 3", {"a.png": "broken"})
    assert caplog.records[1].getMessage() == "epoch 3: 1 image could not be read: a.png: broken"
