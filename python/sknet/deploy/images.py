# SPDX-License-Identifier: Apache-2.0
"""Image files into the network's input, as validation does it."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sknet.config import Config
from sknet.data.folder import EXTENSIONS, DataError

# Pillow can do more, but each decoder is one more way in for a hostile file.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")


class ImageError(ValueError):
    """Bytes that are no usable image, with the reason."""


class ImageTooLargeError(ImageError):
    """An image of more pixels than allowed."""


def decode_image(source: bytes | str | os.PathLike, max_pixels: int = 150_000_000) -> np.ndarray:
    """An image as RGB, (h, w, 3) uint8; grey, palette and transparent ones are converted.

    JPEGs give the same bytes as MindSpore's decoder, but one that is cut short is an error. Needs no MindSpore and may
    run on any thread.

    Args:
        source: path of a file, or what it holds.
        max_pixels: limit on height x width, held to before the pixels are decoded. Pillow has one of its own, of
            178,956,970.

    Raises:
        ImageError: not an image, of another format than FORMATS, or damaged.
        ImageTooLargeError: more than max_pixels.
        OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise ImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata, and on sizes that are checked below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageTooLargeError(f"the image has {width} x {height} pixels; at most {max_pixels:,} are allowed")
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError(f"not an image in one of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageTooLargeError(f"the image has too many pixels; at most {max_pixels:,} are allowed") from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever their format leads them to: SyntaxError, struct.error, ...
        raise ImageError(f"the image is damaged: {error}") from None


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How validation turns a photo into an input: resize the short side, crop the centre, normalise."""

    image_resize: int = Config.image_resize
    crop_pct: float = Config.crop_pct
    interpolation: str = Config.interpolation
    mean: tuple[float, ...] = Config.mean
    std: tuple[float, ...] = Config.std

    KEYS = ("image_resize", "crop_pct", "interpolation", "mean", "std")

    @classmethod
    def of(cls, config: Config) -> Preprocessing:
        """Those of a recipe."""
        return cls(**{key: getattr(config, key) for key in cls.KEYS})

    def as_dict(self) -> dict[str, Any]:
        return {key: list(v) if isinstance(v := getattr(self, key), tuple) else v for key in self.KEYS}


class Preprocessor:
    """Callable: (h, w, 3) uint8 -> (3, size, size) float32, through MindSpore's own image operations.

    Like all of MindSpore it belongs on one thread.

    Args:
        settings: what to do.
        zoom: above 1, the centre is enlarged so many times: what is in the middle appears larger.
    """

    def __init__(self, settings: Preprocessing, zoom: float = 1.0) -> None:
        from mindspore.dataset import vision

        from sknet.data.pipeline import INTERPOLATION

        size = settings.image_resize
        self._steps = [
            vision.Resize(int(size / settings.crop_pct * zoom), INTERPOLATION[settings.interpolation]),
            vision.CenterCrop(size),
            vision.Normalize(mean=list(settings.mean), std=list(settings.std)),
            vision.HWC2CHW(),
        ]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        for step in self._steps:
            image = step(image)
        return image


def find_images(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The files named, and all images in the folders named and below, each folder's in order.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    suffixes = {*EXTENSIONS, ".webp", ".WEBP"}
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            images = sorted(p for p in path.rglob("*") if p.suffix in suffixes and p.is_file())
            if not images:
                raise DataError(f"no image in {path}; expected files that end in {', '.join(EXTENSIONS[::2])}, .webp")
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"no file or folder {path}")
    return found
