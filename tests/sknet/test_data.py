# SPDX-License-Identifier: Apache-2.0
"""Image folders, pipelines and the digits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sknet.config import Config
from sknet.data.augment import crop_box
from sknet.data.erasing import RandomErasing
from sknet.data.folder import DataError, ImageFolder, check_num_classes
from sknet.data.pipeline import eval_batches, iterate, train_batches


def config(**values) -> Config:
    return Config(**{"batch_size": 4, "image_resize": 16, "num_parallel_workers": 2, **values})


def collect(batches) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(iterate(batches) if hasattr(batches, "create_tuple_iterator") else batches)
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def test_epoch_is_decided_by_seed_and_number(image_folder) -> None:
    folder = ImageFolder.open(image_folder({"train": 9}), "train")
    settings = config(drop_remainder=False, re_prob=0.5)
    first, labels = collect(train_batches(settings, folder, 1))
    assert first.shape == (18, 3, 16, 16)
    assert (first.dtype, labels.dtype) == (np.float32, np.int32)
    assert sorted(labels) == [0] * 9 + [1] * 9
    again, _ = collect(train_batches(settings, folder, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, collect(train_batches(settings, folder, 2))[0])
    assert not np.array_equal(first, collect(train_batches(config(drop_remainder=False, seed=1), folder, 1))[0])


def test_workers_and_start_change_nothing(image_folder) -> None:
    """An image's augmentation depends on seed, epoch and index: not on threads, batches, or what was read before."""
    folder = ImageFolder.open(image_folder({"train": 9}), "train")
    settings = {"re_prob": 0.5, "drop_remainder": False}
    whole, labels = collect(train_batches(config(**settings, num_parallel_workers=1), folder, 3))
    batches = train_batches(config(**settings, num_parallel_workers=2), folder, 3)
    late = list(batches.starting_at(2))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in late]), whole[8:])
    np.testing.assert_array_equal(np.concatenate([y for _, y in late]), labels[8:])
    other, _ = collect(train_batches(config(**settings, batch_size=5), folder, 3))
    np.testing.assert_array_equal(other, whole)


def test_crop_boxes() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box((40, 30), (0.25, 0.75), (0.5, 2.0), rng) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert (boxes[:, 2].max(), boxes[:, 3].max()) == (40, 30)
    share, shape = width * height / 1200, width / height
    assert 0.23 < share.min() < 0.3 and 0.6 < share.max() < 0.78
    assert 0.45 < shape.min() < 0.6 and 1.6 < shape.max() < 2.2
    # What no crop can be: the largest centred one of an allowed shape.
    assert crop_box((100, 10), (1.0, 1.0), (0.5, 2.0), rng) == (40, 0, 60, 10)
    assert crop_box((10, 100), (1.0, 1.0), (0.5, 2.0), rng) == (0, 40, 10, 60)


def test_erasing() -> None:
    images = np.ones((200, 3, 20, 30), np.float32)
    erase, rng, erased = RandomErasing(0.5), np.random.default_rng(3), images.copy()
    for image in erased:
        erase(image, rng)
    share = 1 - erased[:, 0].mean(axis=(1, 2))
    assert 70 < (share > 0).sum() < 130
    assert 0.01 < share[share > 0].min() < share.max() < 0.36
    assert (erased[:, 0] == erased[:, 1]).all()
    for image in erased[share > 0, 0]:
        rows, columns = np.nonzero(image == 0)
        assert (image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 0).all()  # a rectangle


def test_remainder_is_dropped(image_folder) -> None:
    folder = ImageFolder.open(image_folder({"train": 9}), "train")
    assert len(folder.samples()[0]) == 18
    assert len(train_batches(config(), folder, 0)) == 4
    assert len(collect(train_batches(config(), folder, 0))[0]) == 16


def test_eval_resizes_and_crops(image_folder) -> None:
    folder = ImageFolder.open(image_folder({"val": 5}), "val")
    images, labels = collect(eval_batches(config(mean=(0.0,) * 3, std=(1.0,) * 3), folder))
    assert images.shape == (10, 3, 16, 16)
    np.testing.assert_array_equal(labels, [0] * 5 + [1] * 5)
    # The classes' mean brightness is 40 and 190.
    assert abs(images[:5].mean() - 40) < 8
    assert abs(images[5:].mean() - 190) < 8


def test_normalisation(image_folder) -> None:
    folder = ImageFolder.open(image_folder({"val": 1}), "val")
    plain, _ = collect(eval_batches(config(mean=(0.0,) * 3, std=(1.0,) * 3), folder))
    scaled, _ = collect(eval_batches(config(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0)), folder))
    mean, std = np.array([10, 20, 30]).reshape(3, 1, 1), np.array([2, 4, 8]).reshape(3, 1, 1)
    np.testing.assert_allclose(scaled, (plain - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".png"), ("L", ".jpg"), ("RGBA", ".png"), ("P", ".png"),
                                              ("RGB", ".JPEG"), ("CMYK", ".jpg"), ("RGB", ".bmp")])  # fmt: skip
def test_kinds_of_images(image_folder, mode: str, suffix: str) -> None:
    folder = ImageFolder.open(image_folder({"train": 4, "val": 4}, mode=mode, suffix=suffix), "train")
    assert collect(train_batches(config(), folder, 0))[0].shape == (8, 3, 16, 16)
    assert collect(eval_batches(config(), folder))[0].shape == (8, 3, 16, 16)


def test_damaged_image_is_named(image_folder) -> None:
    root = image_folder({"train": 4})
    (root / "train" / "b" / "002.png").write_bytes((root / "train" / "b" / "001.png").read_bytes()[:80])
    folder = ImageFolder.open(root, "train")
    for batches in (train_batches(config(), folder, 0), eval_batches(config(), folder)):
        with pytest.raises(DataError, match=r"train/b/002.png: cannot be read: \S+"):
            collect(batches)


def test_labels_are_training_labels(image_folder) -> None:
    """A validation split that lacks the first class must not shift the others."""
    root = image_folder({"train": 1, "val": 2}, classes=("a", "b", "c"))
    for file in (root / "val" / "a").iterdir():
        file.unlink()
    (root / "val" / "a").rmdir()
    train = ImageFolder.open(root, "train")
    val = ImageFolder.open(root, "val", train.classes)
    assert collect(eval_batches(config(), val))[1].tolist() == [1, 1, 2, 2]


def test_bad_folders(image_folder, tmp_path: Path) -> None:
    root = image_folder({"train": 2})
    with pytest.raises(DataError, match="data_dir: no folder .*nowhere"):
        ImageFolder.open(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="has no folder 'val'; it has train"):
        ImageFolder.open(root, "val")
    (root / "val").mkdir()
    with pytest.raises(DataError, match="val has no class folders"):
        ImageFolder.open(root, "val")
    (root / "val" / "zebra").mkdir()
    with pytest.raises(DataError, match=r"no image in .*zebra; expected files that end in \.jpg"):
        ImageFolder.open(root, "val")
    (root / "val" / "zebra" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no image in .*zebra"):
        ImageFolder.open(root, "val")
    Image.new("RGB", (9, 9)).save(root / "val" / "zebra" / "a.png")
    with pytest.raises(DataError, match="class folders that training does not know: zebra"):
        ImageFolder.open(root, "val", ("a", "b"))


def test_bad_numbers(image_folder) -> None:
    folder = ImageFolder.open(image_folder({"train": 2}), "train")
    assert check_num_classes(None, folder) == check_num_classes(2, folder) == 2
    with pytest.raises(DataError, match="1000 given, but .*train has 2 class folders; give --num_classes 2"):
        check_num_classes(1000, folder)
    with pytest.raises(DataError, match="batch_size: 64, but .*train has only 4 images"):
        train_batches(config(batch_size=64), folder, 0)


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sknet.data.digits import main

    out = tmp_path / "new" / "digits"
    assert main([str(out)]) == 0
    assert "1797 images" in capsys.readouterr().out
    source = load_digits()
    files = {split: sorted((out / split).glob("*/*.png")) for split in ("train", "val")}
    assert (len(files["train"]), len(files["val"])) == (1438, 359)
    assert {p.stem for p in files["train"]}.isdisjoint(p.stem for p in files["val"])
    for path in files["train"] + files["val"]:
        index = int(path.stem)
        assert int(path.parent.name) == source.target[index]
        pixels = np.asarray(Image.open(path))
        np.testing.assert_array_equal(pixels, np.round(source.images[index] * 255 / 16).astype(np.uint8))
    for split, share in (("train", 0.8), ("val", 0.2)):
        for label in range(10):
            count, total = len(list((out / split / str(label)).iterdir())), int((source.target == label).sum())
            assert abs(count - share * total) <= 1
    assert [p.name for p in out.parent.iterdir()] == ["digits"]  # nothing left over

    stamp = files["val"][0].stat().st_mtime_ns
    assert main([str(out)]) == 0
    assert files["val"][0].stat().st_mtime_ns == stamp


def test_digits_leaves_other_folders_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sknet.data.digits import main

    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path)]) == 1
    assert "exists and is not the digits image folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
