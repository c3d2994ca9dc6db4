# SPDX-License-Identifier: Apache-2.0
"""Random erasing (arXiv 1708.04896) that a generator decides, which MindSpore's own is not."""

from __future__ import annotations

import math

import numpy as np


class RandomErasing:
    """Sets a random rectangle of an image to zero, the mean colour of a normalised one.

    Args:
        probability: of an image being erased.
        scale: area of the rectangle, share of the image.
        ratio: its height over its width.
        attempts: draws of a rectangle; if none fits, the image stays whole.
    """

    def __init__(
        self,
        probability: float,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        attempts: int = 10,
    ) -> None:
        self._probability, self._scale, self._ratio, self._attempts = probability, scale, ratio, attempts

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """Erase in `image` (c, h, w) itself."""
        if rng.random() >= self._probability:
            return
        height, width = image.shape[1:]
        for _ in range(self._attempts):
            area = rng.uniform(*self._scale) * height * width
            ratio = math.exp(rng.uniform(*np.log(self._ratio)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                image[:, top : top + h, left : left + w] = 0
                return
