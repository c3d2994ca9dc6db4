# SPDX-License-Identifier: Apache-2.0
"""Decoding and preprocessing: the bytes of validation, and refusal of what is no image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from mindspore.dataset import vision
from PIL import Image
from sknet.config import load_config
from sknet.data.folder import DataError, ImageFolder
from sknet.data.pipeline import eval_batches
from sknet.deploy.images import (
    ImageError,
    ImageTooLargeError,
    Preprocessing,
    Preprocessor,
    decode_image,
    find_images,
)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "area"])
def test_same_input_as_validation(photos: Path, interpolation: str) -> None:
    config = load_config(None, image_resize=16, crop_pct=0.7, interpolation=interpolation, batch_size=64)
    folder = ImageFolder.open(photos.parent, photos.name)
    ((expected, _),) = eval_batches(config, folder).create_tuple_iterator(num_epochs=1, output_numpy=True)
    prepare = Preprocessor(Preprocessing.of(config))
    got = np.stack([prepare(decode_image(path)) for path in find_images([photos])])
    assert np.array_equal(got, expected)


def test_decodes_photos_as_mindspore_does(shared_dir: Path) -> None:
    import tarfile

    archive = shared_dir / "data" / "imagenet_sample.tar"
    if not archive.is_file():
        pytest.skip(f"no file {archive}")
    decode, count = vision.Decode(), 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and count < 20:
                data = tar.extractfile(member).read()
                assert np.array_equal(decode_image(data), decode(np.frombuffer(data, np.uint8))), member.name
                count += 1
    assert count == 20


def test_zoom_enlarges_the_centre() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[24:40, 24:40] = 255
    settings = Preprocessing(image_resize=32, crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    bright = [(Preprocessor(settings, zoom)(image)[0] > 0.5).sum() for zoom in (1.0, 2.0)]
    assert bright == [8 * 8, 16 * 16]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image in one of the formats JPEG"),
        (encoded(Image.new("RGB", (30, 30)), "PPM"), "not an image in one of the formats JPEG"),
        (encoded(Image.new("RGB", (300, 300), "red"), "JPEG")[:700], "the image is damaged"),
        (encoded(Image.effect_noise((90, 90), 50), "PNG")[:-900], "the image is damaged"),
    ],
)
def test_bad_images(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_image(data)


def test_pixel_limit_holds_before_decoding() -> None:
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")  # 50 KB that would become 1.2 GB
    with pytest.raises(ImageTooLargeError, match="20000 x 20000 pixels; at most 1,000,000"):
        decode_image(data, max_pixels=1_000_000)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(Image.new(mode, (5, 4)), form)).shape == (4, 5, 3)


def test_find_images(photos: Path, tmp_path: Path) -> None:
    (photos / "ant" / "notes.txt").write_text("not an image")
    found = find_images([photos / "cat" / "0.png", photos])
    assert len(found) == 1 + 9
    assert found[1:] == sorted(found[1:])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in"):
        find_images([tmp_path / "empty"])
    with pytest.raises(DataError, match="no file or folder"):
        find_images([tmp_path / "absent"])
