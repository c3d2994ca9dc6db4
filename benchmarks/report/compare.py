# SPDX-License-Identifier: Apache-2.0
"""Two runs of our own code, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.report import results as r

OURS = (r.KERNEL, r.LAYER)
# A change below this is noise whatever the spreads say: clock speeds drift by as much from one run to the next.
LEAST = 0.05


@dataclass(frozen=True)
class Change:
    """Of one case: seconds before and after, and how much of a change the spreads of both runs would explain."""

    case: str
    contestant: str
    before: float
    after: float
    noise: float  # relative

    @property
    def relative(self) -> float:
        """Above 0: slower."""
        return self.after / self.before - 1

    @property
    def regression(self) -> bool:
        return self.relative > self.noise

    @property
    def gain(self) -> bool:
        return -self.relative > self.noise


def comparable(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """None, or why the times of these runs cannot be compared."""
    for what, old, new in (
        ("CPU", before["machine"]["cpu"], after["machine"]["cpu"]),
        ("threads", before["threads"], after["threads"]),
    ):
        if old != new:
            return f"{what}: {old} before, {new} after"
    return None


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Of all cases that both runs have. Times are scaled by the machine's own speed, as both runs measured it: a slower
    clock is no regression."""
    clock = _flops(after) / _flops(before)
    old_results = {_key(result, name): result for result in before["results"] for name in result["times"]}
    found = []
    for result in after["results"]:
        for name in OURS:
            old = old_results.get(_key(result, name))
            if old is None or name not in result["times"]:
                continue
            was, now = old["times"][name], result["times"][name]
            noise = max(LEAST, _spread(was) + _spread(now))
            found.append(Change(result["id"], name, was["median"], now["median"] * clock, noise))
    return found


def _key(result: dict[str, Any], name: str) -> tuple[str, str, tuple[str, ...]]:
    """The same case may be there twice, against different peers."""
    others = tuple(sorted(set(result["times"]) - {*OURS, r.VECTORS}))
    return result["id"], name, others


def _flops(run: dict[str, Any]) -> float:
    return run["roofline"][str(run["threads"])]["flops"]


def _spread(times: dict[str, Any]) -> float:
    """Half of p20..p80, relative to the median."""
    return (times["p80"] - times["p20"]) / 2 / times["median"]
