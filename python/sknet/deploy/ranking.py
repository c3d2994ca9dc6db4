# SPDX-License-Identifier: Apache-2.0
"""The best classes of a row of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def rank(logits: np.ndarray, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
    """The `top` best classes, best first, as {"index", "class", "probability"}; of equals the lower index comes first.

    Args:
        logits: (classes,) floats.
        classes: their names.
        top: how many; no more than there are.

    Raises:
        ValueError: a logit is not finite, so that there is no order.
    """
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("the network's output is not finite")
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    best = np.argsort(-logits, kind="stable")[:top]
    return [{"index": int(i), "class": classes[i], "probability": float(probabilities[i])} for i in best]
