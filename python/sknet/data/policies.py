# SPDX-License-Identifier: Apache-2.0
"""AutoAugment and RandAugment over Pillow's operations, decided by a generator.

The policies, the operations' names and what a magnitude means are timm's and MindCV's. Theirs draw from process-wide
generators, so that threads and a resumed run would change the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from sknet.config.policy import Policy


@dataclass(frozen=True)
class Canvas:
    """How moved images are drawn: resampling, and the colour of what they do not cover."""

    resample: Image.Resampling
    fill: tuple[int, int, int]


# (image, magnitude 0..10, rng, canvas) -> image
Operation = Callable[[Image.Image, float, np.random.Generator, Canvas], Image.Image]


def _signed(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() < 0.5 else value


def _plain(how: Callable[[Image.Image], Image.Image]) -> Operation:
    return lambda image, magnitude, rng, canvas: how(image)


def _enhance(how: type, increasing: bool) -> Operation:
    """Pillow's enhancer with a factor of 0.1..1.9; increasing: further from 1, either way, with the magnitude."""

    def apply(image: Image.Image, magnitude: float, rng: np.random.Generator, canvas: Canvas) -> Image.Image:
        share = magnitude / 10
        factor = max(0.1, 1 + _signed(0.9 * share, rng)) if increasing else 0.1 + 1.8 * share
        return how(image).enhance(factor)

    return apply


def posterize(image: Image.Image, magnitude: float, rng: object, canvas: object, kind: str = "plain") -> Image.Image:
    """Keep 0..4 bits a colour; kind "original": 4..8; "increasing": 4..0."""
    bits = int(magnitude / 10 * 4)
    bits = {"plain": bits, "original": bits + 4, "increasing": 4 - bits}[kind]
    # Pillow's refuses to keep none.
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new("RGB", image.size)


def solarize(
    image: Image.Image, magnitude: float, rng: object, canvas: object, increasing: bool = False
) -> Image.Image:
    """Invert what is at least a threshold, 256 at magnitude 10; increasing: at magnitude 0."""
    threshold = min(256, int(magnitude / 10 * 256))
    return ImageOps.solarize(image, 256 - threshold if increasing else threshold)


def rotate(image: Image.Image, magnitude: float, rng: np.random.Generator, canvas: Canvas) -> Image.Image:
    """By up to 30 degrees either way."""
    return image.rotate(_signed(magnitude * 3, rng), canvas.resample, fillcolor=canvas.fill)


def _move(
    image: Image.Image,
    magnitude: float,
    rng: np.random.Generator,
    canvas: Canvas,
    matrix: Callable[[float, int, int], tuple[float, ...]],
    most: float,
) -> Image.Image:
    value = _signed(magnitude / 10 * most, rng)
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix(value, image.width, image.height),
        resample=canvas.resample,
        fillcolor=canvas.fill,
    )


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _plain(ImageOps.autocontrast),
    "Equalize": _plain(ImageOps.equalize),
    "Invert": _plain(ImageOps.invert),
    "Rotate": rotate,
    "Posterize": posterize,
    "PosterizeOriginal": partial(posterize, kind="original"),
    "PosterizeIncreasing": partial(posterize, kind="increasing"),
    "Solarize": solarize,
    "SolarizeIncreasing": partial(solarize, increasing=True),
    "ShearX": partial(_move, matrix=lambda v, w, h: (1, v, 0, 0, 1, 0), most=0.3),
    "ShearY": partial(_move, matrix=lambda v, w, h: (1, 0, 0, v, 1, 0), most=0.3),
    "TranslateX": partial(_move, matrix=lambda v, w, h: (1, 0, v * w, 0, 1, 0), most=0.45),
    "TranslateY": partial(_move, matrix=lambda v, w, h: (1, 0, 0, 0, 1, v * h), most=0.45),
} | {
    f"{name}{'Increasing' if increasing else ''}": _enhance(getattr(ImageEnhance, name), increasing)
    for name in ("Color", "Contrast", "Brightness", "Sharpness")
    for increasing in (False, True)
}

_RANDOM = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
           "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"]  # fmt: skip

# The ImageNet policy of arXiv 1805.09501, table 9: pairs of (operation, probability, magnitude).
_IMAGENET = [
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
]


class PolicyAugment:
    """Applies a policy: PIL image (RGB) -> PIL image of the same size.

    Args:
        policy: what `auto_augment` says.
        canvas: how moved images are drawn.
    """

    def __init__(self, policy: Policy, canvas: Canvas) -> None:
        self._policy, self._canvas = policy, canvas
        grows = [f"{name}Increasing" if f"{name}Increasing" in OPERATIONS else name for name in _RANDOM]
        self._names = grows if policy.increasing else _RANDOM
        self._posterize = "PosterizeIncreasing" if policy.name == "autoaugr" else "PosterizeOriginal"

    def steps(self, rng: np.random.Generator) -> list[tuple[str, float, float]]:
        """The draw for one image: (operation, probability, magnitude before its spread)."""
        if self._policy.name == "randaug":
            drawn = rng.integers(len(self._names), size=self._policy.layers)
            return [(self._names[i], self._policy.probability, self._policy.magnitude) for i in drawn]
        pair = _IMAGENET[rng.integers(len(_IMAGENET))]
        return [(self._posterize if name == "Posterize" else name, *rest) for name, *rest in pair]

    def magnitude(self, middle: float, rng: np.random.Generator) -> float:
        spread = self._policy.spread
        drawn = rng.uniform(0, middle) if spread is None else rng.normal(middle, spread) if spread else middle
        return min(max(drawn, 0.0), self._policy.largest)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for name, probability, middle in self.steps(rng):
            if rng.random() < probability:
                image = OPERATIONS[name](image, self.magnitude(middle, rng), rng, self._canvas)
        return image
