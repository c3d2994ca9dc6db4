# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.report import results as r
from benchmarks.report.bars import bars

Run = dict[str, Any]

_SECTIONS = (
    ("SK layer, forward", "sk_layer", "forward", "warm"),
    ("SK layer, forward, cold cache", "sk_layer", "forward", "cold"),
    ("SK layer, forward and backward in training mode", "sk_layer", "train", "warm"),
    ("Convolution, norm, residual and ReLU, forward", "conv_bn_act", "forward", "warm"),
    ("Networks, forward, 224 x 224", "network", "forward", "warm"),
    ("Networks, training step, 224 x 224", "network", "step", "warm"),
)


def report(run: Run, plots: Sequence[str] = ()) -> str:
    """The whole report; `plots` are the names of picture files beside it."""
    parts = ["# Benchmark report", _head(run), "## Bars", _bars(run)]
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in plots]
    for title, kind, mode, cache in _SECTIONS:
        found = list(r.select(run, kind, mode, cache=cache))
        if found:
            parts += [f"## {title}", _times(run, found)]
    if run["memory"]["layers"] or run["memory"]["steps"]:
        parts += ["## Memory", _memory(run)]
    if run["profiles"]:
        parts.append("## Profiles")
        parts += [_profile(profile) for profile in run["profiles"]]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def milliseconds(seconds: float) -> str:
    """Three digits."""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _head(run: Run) -> str:
    m = run["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in m["caches"].items())
    changed = " with changes" if m["changed"] else ""
    lines = [
        f"- {m['cpu']}, {m['cpus']} CPUs ({', '.join(m['instruction_sets'])}; {caches}), {run['threads']} threads",
        f"- {m['system']}, Python {m['python']}, commit {m['commit'][:12] or 'unknown'}{changed}",
        f"- suite {run['suite']}, {run['date']}, {run['seconds'] / 60:.0f} minutes; CPU time that went to other "
        f"processes: at most {run['foreign_cpu']:.1%} in any case",
    ]
    for threads, roof in run["roofline"].items():
        lines.append(
            f"- measured limits, {threads} thread{'s' * (threads != '1')}: {roof['flops'] / 1e9:.0f} GFLOP/s, "
            f"{roof['bandwidth'] / 1e9:.1f} GB/s"
        )
    for name, fact in run["contestants"].items():
        versions = ", ".join(f"{package} {version}" for package, version in fact["versions"].items())
        lines.append(f"- {name}: {'**missing**: ' + fact['why_not'] if fact['why_not'] else versions}")
    return "\n".join(lines)


def _bars(run: Run) -> str:
    rows = [
        (b.number, b.what, f"{'>=' if b.at_least else '<='} {b.number_text(b.target)}", b.number_text(b.value),
         f"**{b.verdict}**" if b.met is False else b.verdict, b.note)
        for b in bars(run)
    ]  # fmt: skip
    return table(("bar", "what", "target", "value", "verdict", "where"), rows)


def _times(run: Run, found: list[r.Result]) -> str:
    names = [name for name in run["contestants"] if any(name in x["times"] or name in x["missing"] for x in found)]
    ours = [name for name in names if run["contestants"][name]["ours"]]
    rows = []
    for x in found:
        cells = [x["shape"]["name"], str(x["batch"])]
        for name in names:
            time = x["times"].get(name)
            if time is None:
                cells.append("-" if name in x["missing"] else "")
            else:
                cells.append(
                    f"{milliseconds(time['median'])} ({milliseconds(time['p20'])}..{milliseconds(time['p80'])})"
                )
        rows.append([*cells, *_best(x, ours), *_shares(run, x, ours)])
    head = ["shape", "batch", *names, "best peer", "x", "GFLOP/s", "GB/s", "roofline"]
    return "Milliseconds, median (p20..p80).\n\n" + table(head, rows)


def _ours(result: r.Result, ours: list[str]) -> str | None:
    """Which of ours the last columns are about: the kernel where it ran, else the network."""
    present = [name for name in (r.KERNEL, r.LAYER) if name in ours and name in result["times"]]
    return present[0] if present else None


def _best(result: r.Result, ours: list[str]) -> tuple[str, str]:
    peers = [name for name in result["times"] if name not in ours]
    best, own = r.best_peer(result, peers), _ours(result, ours)
    if best is None or own is None:
        return "", ""
    ratio = r.ratio(result, best, own)
    return best, f"{ratio.value:.2f} ({ratio.low:.2f}..{ratio.high:.2f})"


def _shares(run: Run, result: r.Result, ours: list[str]) -> Iterator[str]:
    own = _ours(result, ours)
    if own is None:
        yield from ("", "", "")
        return
    seconds = r.median(result, own)
    yield f"{result['flops'] / seconds / 1e9:.0f}"
    yield f"{result['bytes'] / seconds / 1e9:.1f}"
    share = r.share(run, result, own)
    yield f"{share:.0%}" if share is not None else ""


def _memory(run: Run) -> str:
    rows = [
        (entry["id"], name, f"{kept / 2**20:.1f}", "") for entry in run["memory"]["layers"]
        for name, kept in entry["kept"].items()
    ] + [
        (entry["id"], name, f"{(peak['peak'] - peak['baseline']) / 1024:.0f}", f"{peak['peak'] / 1024:.0f}")
        for entry in run["memory"]["steps"] for name, peak in entry["peaks"].items()
    ]  # fmt: skip
    missing = [f"- {entry['id']}, {name}: {reason}" for part in run["memory"].values() for entry in part
               for name, reason in entry["missing"].items()]  # fmt: skip
    head = ("case", "", "MB kept for backward, or added at the peak of a step", "MB, the whole process")
    return "\n\n".join(part for part in (table(head, rows), "\n".join(missing)) if part)


def _profile(profile: dict[str, Any]) -> str:
    title = f"### {profile['id']}"
    if "ops" not in profile:
        return f"{title}\n\n{profile['missing']}"
    total = profile["seconds"]
    rows = [
        (op["op"], op["about"], str(op["calls"]), milliseconds(op["seconds"]), f"{op['seconds'] / total:.1%}",
         f"{op['flops'] / op['seconds'] / 1e9:.0f}", f"{op['limit'] / op['seconds']:.0%}")
        for op in sorted(profile["ops"], key=lambda op: -op["seconds"])
    ]  # fmt: skip
    rows.append(
        ("outside of the ops", "", "", milliseconds(profile["outside"]), f"{profile['outside'] / total:.1%}", "", "")
    )
    rows.append(("in all", "", "", milliseconds(total), "100.0%", "", ""))
    return f"{title}\n\n" + table(("op", "shape", "calls", "ms", "time", "GFLOP/s", "roofline"), rows)
