# SPDX-License-Identifier: Apache-2.0
"""From an image file to a training input, decided by a generator: no other state, so no worker changes a result."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from sknet.config import Config
from sknet.config.policy import parse_policy
from sknet.data.color import ColorJitter
from sknet.data.erasing import RandomErasing
from sknet.data.policies import Canvas, PolicyAugment

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of Inception's random crop of an image of `size` (width, height).

    Ten draws of an area (share of the image, uniform) and of width over height (log-uniform); if none fits, the largest
    centred crop whose shape is allowed.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    shape = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, max(1, round(height * shape))), min(height, max(1, round(width / shape)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def padded_crop(image: Image.Image, padding: int, rng: np.random.Generator) -> Image.Image:
    """A random crop, of the image's own size, from the image with `padding` black pixels on each side."""
    left, top = (int(v) - padding for v in rng.integers(2 * padding + 1, size=2))
    return image.crop((left, top, left + image.width, top + image.height))


class Augment:
    """The training transforms of a recipe: PIL image -> (3, size, size) float32, normalised."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._size = (config.image_resize, config.image_resize)
        self._resampling = RESAMPLING[config.interpolation]
        self._mean = np.array(config.mean, np.float32)
        self._std = np.array(config.std, np.float32)
        self._colors = self._color_transform()
        self._erase = None
        if config.re_prob > 0:
            self._erase = RandomErasing(config.re_prob, config.re_scale, config.re_ratio, config.re_max_attempts)

    def _color_transform(self) -> PolicyAugment | ColorJitter | None:
        """A policy takes the place of colour jitter, as in MindCV."""
        config = self._config
        if config.auto_augment:
            # Pillow does not rotate with a box filter.
            resample = Image.Resampling.BILINEAR if config.interpolation == "area" else self._resampling
            fill = tuple(min(255, max(0, round(value))) for value in config.mean)
            return PolicyAugment(parse_policy(config.auto_augment), Canvas(resample, fill))
        return ColorJitter(config.color_jitter) if any(config.color_jitter) else None

    def _crop(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        config = self._config
        if config.crop_padding > 0:
            whole = image if image.size == self._size else image.resize(self._size, self._resampling)
            return padded_crop(whole, config.crop_padding, rng)
        return image.resize(self._size, self._resampling, box=crop_box(image.size, config.scale, config.ratio, rng))

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        image = self._crop(image.convert("RGB"), rng)
        if self._config.hflip > 0 and rng.random() < self._config.hflip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self._config.vflip > 0 and rng.random() < self._config.vflip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self._colors:
            image = self._colors(image, rng)
        pixels = (np.asarray(image, np.float32) - self._mean) / self._std
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        if self._erase:
            self._erase(pixels, rng)
        return pixels
