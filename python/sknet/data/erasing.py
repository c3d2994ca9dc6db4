# SPDX-License-Identifier: Apache-2.0
"""Random erasing (arXiv 1708.04896) that a seed decides, which MindSpore's own is not."""

from __future__ import annotations

import math

import numpy as np


class RandomErasing:
    """Sets a random rectangle of an image to zero, the mean colour of a normalised one.

    Called with batches (n, c, h, w) in order, from one thread: the generator's state moves on from call to call.

    Args:
        probability: of each image being erased.
        seed: anything numpy.random.default_rng takes.
        scale: area of the rectangle, share of the image.
        ratio: its height over its width.
        attempts: draws of a rectangle; if none fits, the image stays whole.
    """

    def __init__(
        self,
        probability: float,
        seed: int | tuple[int, ...],
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        attempts: int = 10,
    ) -> None:
        self._probability, self._scale, self._ratio, self._attempts = probability, scale, ratio, attempts
        self._rng = np.random.default_rng(seed)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        images = images.copy()
        for image in images:
            if self._rng.random() < self._probability:
                self._erase(image)
        return images

    def _erase(self, image: np.ndarray) -> None:
        height, width = image.shape[1:]
        for _ in range(self._attempts):
            area = self._rng.uniform(*self._scale) * height * width
            ratio = math.exp(self._rng.uniform(*np.log(self._ratio)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = self._rng.integers(height - h + 1), self._rng.integers(width - w + 1)
                image[:, top : top + h, left : left + w] = 0
                return
