# SPDX-License-Identifier: Apache-2.0
"""The text of `auto_augment`, as MindCV and timm write it: a policy's name and settings between dashes."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAMES = ("autoaug", "autoaugr", "randaug")
_UNIFORM = 100  # a larger mstd means: uniform between 0 and the magnitude


@dataclass(frozen=True)
class Policy:
    """Which operations an image goes through, and how strongly.

    Attributes:
        name: "autoaug" (the ImageNet policy of arXiv 1805.09501), "autoaugr" (the same, its posterizing growing with
            the magnitude) or "randaug" (arXiv 1909.13719).
        magnitude: of randaug, 0..10.
        layers: operations an image of randaug.
        probability: of each of them being applied.
        spread: standard deviation of the magnitude; None: uniform between 0 and the magnitude.
        largest: the magnitude is cut off here.
        increasing: randaug takes those forms of the operations that grow with the magnitude.
    """

    name: str
    magnitude: float = 10.0
    layers: int = 2
    probability: float = 0.5
    spread: float | None = 0.0
    largest: float = 10.0
    increasing: bool = False


def parse_policy(text: str) -> Policy:
    """The policy that, for example, "randaug-m7-n2-mstd0.5-mmax10-inc1-p0.5" or "autoaug-mstd0.5" means.

    Raises:
        ValueError: telling what was expected.
    """
    name, *parts = text.split("-")
    if name not in NAMES:
        raise ValueError(f"a policy of {', '.join(NAMES)}, such as randaug-m7-mstd0.5")
    known = {"mstd"} | ({"m", "n", "mmax", "inc", "p"} if name == "randaug" else set())
    # MindCV documents a spread of 0.5 as randaug's default.
    values = {"mstd": 0.5 if name == "randaug" else 0.0}
    for part in parts:
        found = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        if not found or found[1] not in known:
            raise ValueError(f"after {name}- any of {', '.join(sorted(known))}, each with a number")
        values[found[1]] = float(found[2])
    if values.get("p", 0) > 1:
        raise ValueError("p at most 1")
    layers = values.get("n", 2)
    if layers != int(layers) or layers < 1:
        raise ValueError("n a whole number, at least 1")
    return Policy(
        name,
        values.get("m", 10.0),
        int(layers),
        values.get("p", 0.5),
        None if values["mstd"] > _UNIFORM else values["mstd"],
        values.get("mmax", 10.0),
        bool(values.get("inc", 0)),
    )
