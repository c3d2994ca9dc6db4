# SPDX-License-Identifier: Apache-2.0
"""One contestant in a process of its own: ``python -m benchmarks.harness.worker PLUGIN THREADS``.

Reads one JSON request a line from stdin, answers with one line on what was stdout. In between it waits in the read, and
the parent keeps it stopped: only one contestant computes at a time.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.cases import Case, Unsupported

CHOOSING_SECONDS = 0.4  # spent on each variant before the choice
CHOOSING_CALLS = 7


class Worker:
    """The case that is loaded, and what can be asked about it."""

    def __init__(self, plugin: str, threads: int) -> None:
        self.plugin = importlib.import_module(f"benchmarks.peers.{plugin}")
        self.threads = threads
        self.call: Callable[[], Any] | None = None
        self.flush = None

    def hello(self) -> dict[str, Any]:
        reason = self.plugin.why_not()
        return {"why_not": reason, "versions": {} if reason else self.plugin.versions()}

    def prepare(self, case: dict[str, Any], prefer: str | None = None) -> dict[str, Any]:
        """Loads a case in the fastest of its variants, or in the one that is asked for."""
        self.release()
        parsed = Case.from_json(case)
        variants = self.plugin.variants(parsed, self.threads)
        if prefer in variants:
            variants = {prefer: variants[prefer]}
        tried: dict[str, float] = {}
        failed: dict[str, str] = {}
        for name, make in variants.items():
            try:
                call = make()
                result = call()
            except Unsupported:
                raise
            except Exception as error:  # whatever the framework raises: one variant less
                failed[name] = f"{type(error).__name__}: {error}"[:400]
                continue
            tried[name] = self._least(call)
            if tried[name] == min(tried.values()):
                self.call, best, output = call, name, np.asarray(self.plugin.to_numpy(result))
            del call, result
            gc.collect()
        if not tried:
            raise RuntimeError(f"no variant runs: {failed}")
        return {
            "variant": best,
            "variants": tried,
            "failed": failed,
            "seconds": tried[best],
            "output": {"shape": list(output.shape), "nonzero": float(np.count_nonzero(output)) / max(output.size, 1)},
        }

    def measure(self, repetitions: int, warm_up: int, cold: bool) -> dict[str, Any]:
        """Seconds of each repetition. `cold`: the caches hold other data before each."""
        call, to_numpy = self.call, self.plugin.to_numpy
        for _ in range(warm_up):
            to_numpy(call())
        times = []
        gc.collect()
        gc.disable()
        try:
            for _ in range(repetitions):
                if cold:
                    self._flush()
                start = time.perf_counter()
                to_numpy(call())
                times.append(time.perf_counter() - start)
        finally:
            gc.enable()
        return {"times": times}

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """A question that only some plug-ins answer."""
        return getattr(self.plugin, question)(**arguments)

    def release(self) -> dict[str, Any]:
        self.call = None
        gc.collect()
        return {}

    def _least(self, call: Callable[[], Any]) -> float:
        """The shortest of a few calls: what a disturbance cannot change."""
        times: list[float] = []
        end = time.perf_counter() + CHOOSING_SECONDS
        while len(times) < CHOOSING_CALLS and (not times or time.perf_counter() < end):
            start = time.perf_counter()
            self.plugin.to_numpy(call())
            times.append(time.perf_counter() - start)
        return min(times)

    def _flush(self) -> None:
        if self.flush is None:
            self.flush = np.zeros(flush_bytes() // 4, np.float32)
        self.flush += 1.0


def flush_bytes() -> int:
    """Twice the largest cache, at least 64 MB: caches of half a gigabyte exist, and every contestant has its own."""
    largest = 0
    for index in range(8):
        try:
            with open(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size") as file:
                text = file.read().strip()
        except OSError:
            continue
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        largest = max(largest, int(text.rstrip("KM")) * unit)
    return max(2 * largest, 64 << 20)


def main() -> None:
    # Frameworks print; what they print goes to the log (stderr), not into the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(sys.argv[1], int(sys.argv[2]))
            answer = getattr(worker, request.pop("do"))(**request)
        except Unsupported as reason:
            answer = {"unsupported": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
