# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Summary(NamedTuple):
    median: float
    p20: float
    p80: float
    count: int


class Ratio(NamedTuple):
    """How many times longer the other takes; `low` and `high` are the 20th and 80th percentiles over the rounds."""

    value: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the neighbours, as NumPy's default.

    Raises:
        ValueError: No values, or `share` outside 0..1.
    """
    if not values:
        raise ValueError("percentile: values: got none, expected at least one")
    if not 0 <= share <= 1:
        raise ValueError(f"percentile: share: got {share}, expected 0..1")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summary(rounds: Sequence[Sequence[float]]) -> Summary:
    """Over all repetitions of all rounds, one list a turn of the contestant."""
    values = [value for turn in rounds for value in turn]
    return Summary(percentile(values, 0.5), percentile(values, 0.2), percentile(values, 0.8), len(values))


def ratio(other: Mapping[str, Any], ours: Mapping[str, Any]) -> Ratio:
    """Of the medians of two entries with `median` and `rounds`, the medians of each round. The spread is that of the
    ratios within one round, where both met the same weather."""
    each = [b / a for a, b in zip(ours["rounds"], other["rounds"], strict=False)]
    return Ratio(other["median"] / ours["median"], percentile(each, 0.2), percentile(each, 0.8))


def geometric_mean(values: Sequence[float]) -> float:
    """Raises ValueError on no values, or one that is not above 0."""
    if not values or min(values) <= 0:
        raise ValueError(f"geometric_mean: values: got {list(values)}, expected some above 0")
    return math.exp(sum(map(math.log, values)) / len(values))
