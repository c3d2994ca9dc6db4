# SPDX-License-Identifier: Apache-2.0
"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): each image with the one opposite in its batch."""

from __future__ import annotations

import math

import numpy as np


class Mixing:
    """Mixes a batch, as MindCV and timm do it: one draw of kind, share and rectangle for the whole batch.

    Args:
        mixup: both parameters of the beta distribution that mixup's share is drawn from; 0: no mixup.
        cutmix: the same for cutmix. With both, each batch takes one of them at even odds.
        probability: of a batch being mixed.
        classes: width of the targets.
    """

    def __init__(self, mixup: float, cutmix: float, probability: float, classes: int) -> None:
        self._mixup, self._cutmix, self._probability, self._classes = mixup, cutmix, probability, classes

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix `images` (n, c, h, w) themselves; labels (n,) become targets (n, classes) float32 whose rows sum to 1."""
        share = self._mix(images, rng) if rng.random() < self._probability else 1.0
        targets = np.eye(self._classes, dtype=np.float32)[labels]
        return images, np.float32(share) * targets + np.float32(1 - share) * targets[::-1]

    def _mix(self, images: np.ndarray, rng: np.random.Generator) -> float:
        """The share that each image keeps."""
        cut = self._cutmix > 0 and (self._mixup == 0 or rng.random() < 0.5)
        alpha = self._cutmix if cut else self._mixup
        share = float(rng.beta(alpha, alpha))
        others = images[::-1].copy()
        if not cut:
            images *= np.float32(share)
            images += np.float32(1 - share) * others
            return share
        top, bottom, left, right = cut_box(images.shape[2:], share, rng)
        images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])


def cut_box(size: tuple[int, int], share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a rectangle in an image of `size` (height, width).

    It has the image's shape and 1 - share of its area; its centre is anywhere, so that a border may cut it.
    """
    edges = []
    for length in size:
        cut, centre = int(length * math.sqrt(1 - share)), int(rng.integers(length))
        edges += [max(0, centre - cut // 2), min(length, centre + cut // 2)]
    return tuple(edges)
