# SPDX-License-Identifier: Apache-2.0
"""Builds the CUDA library, checks every op on the GPU, times the SK unit against PyTorch. Needs PyTorch, nvcc,
CMake and a GPU.

    python benchmarks/cuda/prove.py --out results                   build, check, time; under 8 minutes
    python benchmarks/cuda/prove.py --out results --mode time       go on with the timings that there was no time for
    python benchmarks/cuda/prove.py --out results --mode sanitize   compute-sanitizer: memcheck, racecheck, synccheck
    python benchmarks/cuda/prove.py --out results --mode check      build and check alone

Maps are checked and timed in both layouts, and in NCHW with channels last inside the unit. Writes <out>/cuda.json (all
numbers, device, versions), <out>/cuda.md (the table) and <out>/preferred_layout.h (what csrc/cuda/preferred_layout.h
has as an estimate, measured). On the way, and for good if the run breaks off, the first two are called
cuda.partial.json and cuda.partial.md; cuda.now says what was being done. Leaves with status 1 if any check failed or
there was no time for it, or if the run broke off. Bars that speed has to meet are judged in the table; they do not
change the status.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import torch  # noqa: E402
from check import Checker  # noqa: E402
from report import preferred_header, table  # noqa: E402
from sanitize import TOOLS, sanitize  # noqa: E402
from series import timings  # noqa: E402
from shapes import PAPER  # noqa: E402
from stages import check  # noqa: E402
from timing import PRECISIONS, CaptureError, copy_bandwidth  # noqa: E402
from toolchain import build, versions  # noqa: E402
from warm import Workers  # noqa: E402

from tests.cuda.emulated import cuda_native  # noqa: E402

CHECKS_SHARE = 0.6  # of the budget, so that there is something left to time in
HANGS = 180  # seconds without a word
AGAIN = 75  # a timing process that cannot go on asks for another
Result = dict[str, Any]


class Record:
    """The result on disk: cuda.partial.* at every step, cuda.* at the end."""

    def __init__(self, out: Path, result: Result) -> None:
        self.out, self.result = out, result
        self._before, self._started = result.get("seconds", 0.0), time.monotonic()

    @classmethod
    def continued(cls, out: Path) -> Record | None:
        """With what an earlier run left, finished or not; None if there was none."""
        for stem in ("cuda.partial", "cuda"):
            if (path := out / f"{stem}.json").is_file():
                return cls(out, json.loads(path.read_text()))
        return None

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def save(self, stem: str = "cuda.partial") -> str:
        self.result["seconds"] = round(self._before + self.seconds(), 1)
        text = table(self.result)
        for suffix, content in ((".json", json.dumps(self.result, indent=1) + "\n"), (".md", text)):
            fresh = self.out / f"{stem}{suffix}.new"
            fresh.write_text(content)
            fresh.replace(self.out / f"{stem}{suffix}")  # whatever kills the run: the old file or the new one
        return text

    def progress(self, what: str) -> None:
        """A kernel that never ends takes the process with it, and this stays."""
        (self.out / "cuda.now").write_text(what + "\n")
        faulthandler.dump_traceback_later(HANGS, exit=True)

    def end(self) -> int:
        """Writes what is to stay; the status to leave with."""
        faulthandler.cancel_dump_traceback_later()
        (self.out / "cuda.now").unlink(missing_ok=True)
        if "broke off" in self.result:
            print(self.save())
            return 1
        print(self.save("cuda"))
        for partial in self.out.glob("cuda.partial.*"):
            partial.unlink()
        if self.result["timings"]:
            estimate = (ROOT / "csrc" / "cuda" / "preferred_layout.h").read_text()
            (self.out / "preferred_layout.h").write_text(preferred_header(estimate, self.result))
        return 0 if "unfinished" not in self.result and all(row["ok"] for row in self.result["checks"]) else 1


def checks(record: Record, arguments: argparse.Namespace, path: Path, deadline: float) -> None:
    module, result = cuda_native(), record.result

    def poisoned(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        return torch.full(shape, math.nan, dtype=getattr(torch, dtype), device=arguments.device)

    # Under the sanitizer no kernels but ours: PyTorch's are not what it is to judge. It takes its time.
    peer_device = "cpu" if arguments.few else arguments.device
    progress = (lambda _: None) if arguments.few else record.progress
    checker = Checker(module, module.Library(path, poisoned), arguments.device, result["seed"], peer_device, progress)
    began = record.seconds()
    result["unfinished"] = check(result["checks"], checker, module, arguments.few, deadline, record.save)
    if not result["unfinished"]:
        del result["unfinished"]
    result["check seconds"] = round(record.seconds() - began, 1)


def measure(record: Record, path: Path, deadline: float) -> int:
    """The timings that are missing, in a process with nothing else in it; AGAIN if another has to go on."""
    module, result = cuda_native(), record.result
    library = module.Library(path)
    record.progress("copy bandwidth")
    result.setdefault("copy bytes per second", copy_bandwidth())
    result["preferred"] = {
        f"{precision} {channels}": [
            prefer(channels, "float32" if precision == "tf32" else precision, precision == "tf32")
            for prefer in (library.preferred_layout, library.inside_layout)
        ]
        for precision in PRECISIONS
        for channels in sorted({unit.channels // unit.groups for unit in PAPER})
    }
    try:
        timings(result["timings"], module, library, deadline, record.save, record.progress)
    except CaptureError:
        return AGAIN
    finally:
        record.save()
    return 0


def measure_in_processes(record: Record, path: Path, deadline: float) -> None:
    record.save()
    while (left := deadline - time.monotonic()) > 0:
        command = [sys.executable, __file__, "--out", str(record.out), "--mode", "measure", "--library", str(path)]
        status = subprocess.run([*command, "--budget", str(left)]).returncode
        record.result.update(json.loads((record.out / "cuda.partial.json").read_text()))
        if status not in (0, AGAIN):
            now = record.out / "cuda.now"
            record.result.setdefault("broke off", f"timing left with status {status} at {now.read_text().strip()}")
        if status != AGAIN:
            return


def guarded(record: Record, body: Callable[[], Any]) -> Any:
    try:
        return body()
    except Exception:
        traceback.print_exc()
        record.result["broke off"] = traceback.format_exc(limit=1).splitlines()[-1]
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and table")
    parser.add_argument("--mode", choices=("prove", "check", "time", "sanitize", "measure"), default="prove",
                        metavar="{prove,check,time,sanitize}")  # fmt: skip
    parser.add_argument("--library", type=Path, help="a library that is built already; else build/cuda-proof is used")
    parser.add_argument("--device", default="cuda", help="cpu runs the checks on the emulated library")
    parser.add_argument("--few", action="store_true", help="a quarter of the odd shapes, none of the paper's")
    parser.add_argument("--seed", type=int, help="of the inputs; a fresh one in every run, which the report names")
    budget = "seconds; in mode prove 60 %% of them for build and checks, in mode sanitize for each tool"
    parser.add_argument("--budget", type=float, default=450, help=budget)
    parser.add_argument("--tool", choices=TOOLS, action="append", help="of compute-sanitizer; default: all")
    arguments = parser.parse_args()
    started, mode, out = time.monotonic(), arguments.mode, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("no CUDA device: PyTorch sees none")
    if mode == "measure":
        record = Record.continued(out)
        status = guarded(record, lambda: measure(record, arguments.library, started + arguments.budget))
        record.save()
        return status

    workers = Workers(out / "cuda.warm.log") if mode == "prove" else None
    try:
        path = arguments.library or build(ROOT, lines=mode == "sanitize")
        if mode == "sanitize":
            return sanitize(__file__, out, path, arguments.tool or list(TOOLS), arguments.budget)
        identity = {**(versions() if on_gpu else {"device": "emulated, no GPU"}),
                    "library": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}  # fmt: skip
        record = Record.continued(out) if mode == "time" else None
        if record is None:
            record = Record(out, {"checks": [], "unfinished": "everything", "timings": [], "versions": identity})
            record.result["build seconds"] = round(time.monotonic() - started, 1)
            record.result["seed"] = int(time.time()) if arguments.seed is None else arguments.seed
        elif record.result["versions"] != identity:
            sys.exit(f"{out}: has timings of {record.result['versions']}, not of {identity}; choose another --out")
        record.result.pop("broke off", None)
        print(f"seed {record.result['seed']}", flush=True)
        timed, whole = mode in ("prove", "time"), started + arguments.budget
        in_time = started + CHECKS_SHARE * arguments.budget if timed else math.inf

        def all_steps() -> None:
            if mode != "time":
                checks(record, arguments, path, in_time)
            if workers:
                workers.finish(in_time - time.monotonic())
            if timed:
                faulthandler.cancel_dump_traceback_later()  # the timing process has its own
                torch.cuda.empty_cache()
                measure_in_processes(record, path, whole)

        guarded(record, all_steps)
        return record.end()
    finally:
        if workers:
            workers.stop()


if __name__ == "__main__":
    sys.exit(main())
