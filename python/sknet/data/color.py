# SPDX-License-Identifier: Apache-2.0
"""Colour jitter with Pillow's enhancers, decided by a generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def _turn_hue(image: Image.Image, share: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(i + round(share * 255)) % 256 for i in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in a random order.

    Args:
        amounts: one for brightness, contrast and saturation alike; or three; or four, the last for the hue. An amount
            a draws a factor of max(0, 1 - a)..1 + a; that of the hue turns it by -a..a of the circle.
    """

    def __init__(self, amounts: Sequence[float]) -> None:
        amounts = list(amounts) * 3 if len(amounts) == 1 else list(amounts)
        self._amounts = amounts + [0.0] * (4 - len(amounts))

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for i in rng.permutation(4):
            amount = self._amounts[i]
            if amount == 0:
                continue
            if i == 3:
                image = _turn_hue(image, rng.uniform(-amount, amount))
            else:
                image = _ENHANCERS[i](image).enhance(rng.uniform(max(0.0, 1 - amount), 1 + amount))
        return image
