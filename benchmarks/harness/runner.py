# SPDX-License-Identifier: Apache-2.0
"""Runs cases: all contestants load one, then they take turns, A B C A B C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import machine, stats
from benchmarks.harness.cases import Case, cost
from benchmarks.harness.contestants import Contestant, Process, UnsupportedCase, WorkerError

PREPARE_TIMEOUT = 900.0  # compilers may take minutes
LEAST_NONZERO = 0.05  # a result that is mostly zeros is not trusted


@dataclass(frozen=True)
class Effort:
    """How long each case is measured."""

    rounds: int = 5
    turn: float = 0.15  # seconds of one turn of one contestant
    most: int = 60  # repetitions in a turn
    slow: float = 1.5  # a call of more seconds than this gets two rounds and no warm-up


@dataclass
class Entry:
    """One case with the contestants that are to run it."""

    case: Case
    contestants: Sequence[Contestant]


@dataclass
class Runner:
    """Keeps a process for each contestant through all cases."""

    threads: int
    effort: Effort
    say: Callable[[str], None] = print
    processes: dict[Contestant, Process] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by contestant: why_not, versions
    chosen: dict[tuple[str, str], str] = field(default_factory=dict)  # variant, by contestant and shape

    def process(self, contestant: Contestant) -> Process | None:
        """None if the contestant cannot run here; the reason is in `facts`."""
        if contestant.name not in self.facts:
            process = Process(contestant, self.threads)
            try:
                fact = process.ask("hello", timeout=300)
            except WorkerError as error:
                fact = {"why_not": str(error), "versions": {}}
            self.facts[contestant.name] = {**fact, "ours": contestant.ours, "threads": process.threads}
            if fact["why_not"] is not None:
                process.close()
                self.say(f"without {contestant.name}: {fact['why_not']}")
            else:
                self.processes[contestant] = process
        return self.processes.get(contestant)

    def run(self, entry: Entry) -> dict[str, Any]:
        """The result of one case, as the JSON has it."""
        case = entry.case
        flops, moved = cost(case)
        result: dict[str, Any] = {
            "id": case.id,
            **case.to_json(),
            "flops": flops,
            "bytes": moved,
            "times": {},
            "missing": {},
        }
        estimates: dict[Contestant, float] = {}
        begun = time.monotonic()
        for contestant in entry.contestants:
            process = self.process(contestant)
            if process is None:
                result["missing"][contestant.name] = self.facts[contestant.name]["why_not"]
                continue
            key = (contestant.name, f"{case.family}/{case.shape['name']}/{case.mode}")
            try:
                answer = process.ask("prepare", PREPARE_TIMEOUT, case=case.to_json(), prefer=self.chosen.get(key))
                self._check(case, answer["output"])
            except (WorkerError, UnsupportedCase) as error:
                result["missing"][contestant.name] = str(error)
                continue
            self.chosen[key] = answer["variant"]
            estimates[contestant] = answer["seconds"]
            result["times"][contestant.name] = {
                "variant": answer["variant"],
                "variants": answer["variants"],
                "failed": answer["failed"],
                "rounds": [],
            }
        prepared = time.monotonic()
        clock, used = machine.CpuClock(), self._cpu_seconds()
        for turn in range(self.effort.rounds):
            for contestant, seconds in list(estimates.items()):
                slow = seconds > self.effort.slow
                if slow and turn >= 2:
                    continue
                repetitions = min(max(1, round(self.effort.turn / max(seconds, 1e-7))), self.effort.most)
                cold = case.cache == "cold"
                # The first call after the others had the caches is not what "warm" means.
                warm_up = 0 if slow or cold else 1 if seconds > 0.02 else 3
                try:
                    answer = self.processes[contestant].ask(
                        "measure", repetitions=repetitions, warm_up=warm_up, cold=cold
                    )
                except WorkerError as error:
                    result["missing"][contestant.name] = str(error)
                    result["times"].pop(contestant.name)
                    estimates.pop(contestant)
                    continue
                result["times"][contestant.name]["rounds"].append(answer["times"])
        result["prepare_seconds"] = prepared - begun
        result["measure_seconds"] = time.monotonic() - prepared
        result["foreign_cpu"] = clock.foreign_share(self._cpu_seconds() - used)
        for contestant in estimates:
            self.processes[contestant].ask("release")
        for found in result["times"].values():
            found.update(stats.summary(found["rounds"])._asdict())
            found["rounds"] = [stats.percentile(turn, 0.5) for turn in found["rounds"]]  # all that ratios need
        self.say(self._line(result))
        return result

    def ask(self, contestant: Contestant, question: str, **arguments: Any) -> dict[str, Any]:
        """A question to one contestant; {"missing": reason} if it cannot answer."""
        process = self.process(contestant)
        if process is None:
            return {"missing": self.facts[contestant.name]["why_not"]}
        try:
            return process.ask("ask", PREPARE_TIMEOUT, question=question, **arguments)
        except (WorkerError, UnsupportedCase) as error:
            return {"missing": str(error)}

    def close(self) -> None:
        for process in self.processes.values():
            process.close()

    def _cpu_seconds(self) -> float:
        running = [p.process.pid for p in self.processes.values() if p.process is not None]
        return machine.cpu_seconds() + sum(machine.cpu_seconds(pid) for pid in running)

    @staticmethod
    def _check(case: Case, output: dict[str, Any]) -> None:
        """All of them compute the same thing, at least to the shape, and not nothing."""
        if case.mode == "forward" and tuple(output["shape"]) != case.output_shape:
            raise WorkerError(f"output of shape {output['shape']}, expected {list(case.output_shape)}")
        if case.mode != "step" and output["nonzero"] < LEAST_NONZERO:
            raise WorkerError(f"only {output['nonzero']:.1%} of the output are not zero")

    @staticmethod
    def _line(result: dict[str, Any]) -> str:
        columns = [f"{name} {found['median'] * 1e3:.3f}" for name, found in result["times"].items()]
        missing = [f"{name} -" for name in result["missing"]]
        spent = f"[{result['prepare_seconds']:.0f} + {result['measure_seconds']:.0f} s]"
        return f"{result['id']} (ms): {', '.join(columns + missing)} {spent}"
