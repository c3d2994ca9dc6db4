# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.report results.json``: Markdown and pictures; ``--summary``: what the README shows of it;
``--compare old.json`` fails on a regression."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.report import compare, plots, results
from benchmarks.report.bars import bars
from benchmarks.report.summary import summary
from benchmarks.report.tables import milliseconds, report


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    runs = [results.load(path) for path in options.results]
    if options.summary:
        print(summary(runs), end="")
        return 0
    if len(runs) > 1:
        parser.error("only --summary takes more than one file of results")
    run = runs[0]
    if options.compare:
        return _compare(results.load(options.compare), run)
    out = options.out or options.results[0].with_suffix(".md")
    out.parent.mkdir(parents=True, exist_ok=True)
    reason = plots.why_not()
    pictures = [] if reason else plots.draw(run, out.parent)
    out.write_text(report(run, pictures))
    for bar in bars(run):
        print(f"{bar.verdict:<13}{bar.number_text(bar.value):>8}  (target {bar.number_text(bar.target)})  {bar.what}")
    print(
        f"{out} written"
        + (f", without pictures: {reason}" if reason else f", with {', '.join(pictures) or 'no pictures'}")
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Make a report of results.")
    parser.add_argument("results", type=Path, nargs="+", help="JSON of python -m benchmarks")
    parser.add_argument("--out", type=Path, help="Markdown file; pictures go beside it. Default: beside the results")
    parser.add_argument("--summary", action="store_true", help="only print what the README shows of such runs")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD", help="only compare with an earlier run; 1 on a regression"
    )
    return parser


def _compare(before: dict, after: dict) -> int:
    reason = compare.comparable(before, after)
    if reason:
        print(f"these runs cannot be compared: {reason}")
        return 2
    found = compare.changes(before, after)
    if not found:
        print("these runs have no case in common")
        return 2
    for change in sorted(found, key=lambda change: -change.relative):
        if change.regression or change.gain:
            word = "slower" if change.regression else "faster"
            print(f"{word} {change.relative:+.1%} (noise {change.noise:.1%}): {change.contestant}, {change.case}: "
                  f"{milliseconds(change.before)} -> {milliseconds(change.after)} ms")  # fmt: skip
    worse = [change for change in found if change.regression]
    print(f"{len(found)} cases: {len(worse)} slower, {sum(c.gain for c in found)} faster, beyond noise")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
