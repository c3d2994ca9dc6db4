# SPDX-License-Identifier: Apache-2.0
"""The weights of the golden results: the recipe of their README."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np


def golden_weight(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """The entry `name` of timm's state_dict: float32, but for a norm's counter of batches."""
    rng = np.random.default_rng(zlib.crc32(name.encode()) ^ seed)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_mean"):
        value = 0.1 * rng.standard_normal(shape)
    elif name.endswith("running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        value = rng.uniform(0.5, 1.5, shape) if name.endswith("weight") else 0.1 * rng.standard_normal(shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return value.astype(np.float32)


def golden_weights(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, np.ndarray]:
    return {name: golden_weight(name, shape, seed) for name, shape in shapes.items()}
