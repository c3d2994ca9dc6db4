# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks``: measure, and write the results as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import suites
from benchmarks.harness import machine, memory
from benchmarks.harness.contestants import ALL, ALLOCATOR, LAYER, Contestant, Process, WorkerError, available_threads
from benchmarks.harness.runner import Entry, Runner

SCHEMA = 1
BUSY = 0.05  # share of the CPUs' time that others may take before the results are called disturbed


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    threads = options.threads or available_threads()
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": options.suite,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "threads": threads,
        "environment": ALLOCATOR,
        "results": [],
        "memory": {"layers": [], "steps": []},
        "profiles": [],
    }
    clock = machine.CpuClock()
    time.sleep(1)
    others = clock.foreign_share(0.0)
    if others > BUSY:
        _say(f"warning: other processes use {others:.0%} of the CPUs; the figures will not mean much")
    results["roofline"] = {str(n): _roofline(n) for n in sorted({1, threads})}
    _say(f"roofline: {results['roofline']}")

    runner = Runner(threads, suites.EFFORTS.get(options.suite, suites.EFFORTS["quick"]), _say)
    try:
        for entry in _selected(suites.entries(options.suite), options):
            results["results"].append(runner.run(entry))
            _write(options.out, results)
        if not options.only:
            _profiles(runner, options.suite, results)
    finally:
        runner.close()
        results["contestants"] = runner.facts
        results["seconds"] = time.monotonic() - started
        results["foreign_cpu"] = max([r["foreign_cpu"] for r in results["results"]], default=0.0)
        _write(options.out, results)
    if not options.only:
        _memory(options.suite, threads, results)
        results["seconds"] = time.monotonic() - started
        _write(options.out, results)
    if results["foreign_cpu"] > BUSY:
        _say(f"warning: up to {results['foreign_cpu']:.0%} of the CPUs' time went to other processes: not a quiet run")
    _say(f"{options.out}: {len(results['results'])} cases in {results['seconds'] / 60:.1f} minutes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure sknet_ops and its peers.")
    parser.add_argument("--suite", choices=("smoke", "quick", "full"), default="quick")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="where the results go")
    parser.add_argument("--threads", type=int, default=0, help="of every contestant; 0: all CPUs of this process")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this text in their name")
    parser.add_argument(
        "--contestants", default="", metavar="NAMES", help="comma-separated; of: " + ", ".join(c.name for c in ALL)
    )
    return parser


def _selected(entries: list[Entry], options: argparse.Namespace) -> list[Entry]:
    names = [name.strip() for name in options.contestants.split(",") if name.strip()]
    unknown = set(names) - {contestant.name for contestant in ALL}
    if unknown:
        sys.exit(f"--contestants: got {', '.join(sorted(unknown))}, expected some of {', '.join(c.name for c in ALL)}")
    if names:
        entries = [Entry(e.case, [c for c in e.contestants if c.name in names]) for e in entries]
    return [entry for entry in entries if options.only in entry.case.id and entry.contestants]


def _roofline(threads: int) -> dict[str, Any]:
    """Limits of so many threads, measured in a process of their own."""
    process = Process(Contestant("roofline", LAYER.plugin, ours=True, threads=threads), threads)
    try:
        return process.ask("ask", question="roofline")
    except WorkerError as error:
        sys.exit(f"the roofline cannot be measured: {error}")
    finally:
        process.close()


def _profiles(runner: Runner, suite: str, results: dict[str, Any]) -> None:
    for case in suites.profile_cases(suite):
        answer = runner.ask(LAYER, "profile", case=case.to_json(), runs=20 if case.mode == "forward" else 5)
        results["profiles"].append({"id": case.id, **answer})
        share = answer.get("missing") or f"{answer['outside'] / answer['seconds']:.1%} outside of our ops"
        _say(f"profile {case.id}: {share}")


def _memory(suite: str, threads: int, results: dict[str, Any]) -> None:
    layers, networks = suites.memory_cases(suite)
    for case in layers:
        results["memory"]["layers"].append(memory.kept_by_layer(case, suites.CHAIN, threads))
        _say(f"kept for backward: {results['memory']['layers'][-1]}")
    for case in networks:
        results["memory"]["steps"].append(memory.training_step(case, threads))
        _say(f"memory of a step: {results['memory']['steps'][-1]}")


def _write(path: Path, results: dict[str, Any]) -> None:
    """All that there is so far: a run that is cut off has not been in vain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".part")
    new.write_text(json.dumps(results, indent=1))
    new.replace(path)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
