# SPDX-License-Identifier: Apache-2.0
"""Builds the CUDA library, checks every op on the GPU, times the SK unit against PyTorch. Needs PyTorch, nvcc,
CMake and a GPU.

    python benchmarks/cuda/prove.py --out results                   build, check, time; under 8 minutes
    python benchmarks/cuda/prove.py --out results --mode sanitize   compute-sanitizer: memcheck, then racecheck
    python benchmarks/cuda/prove.py --out results --mode check      build and check alone

Maps are checked and timed in both layouts, and in NCHW with channels last inside the unit. Writes <out>/cuda.json (all
numbers, device, versions), <out>/cuda.md (the table) and <out>/preferred_layout.h (what csrc/cuda/preferred_layout.h
has as an estimate, measured). On the way, and for good if the run breaks off, the first two are called
cuda.partial.json and cuda.partial.md. Leaves with status 1 if any check failed or there was no time for it, or if the
run broke off. Bars that speed has to meet are judged in the table; they do not change the status.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import torch  # noqa: E402
from check import Checker, named, odd_cases  # noqa: E402
from report import JUDGED, OURS, preferred_header, table  # noqa: E402
from shapes import PAPER, dense_cases, paper_cases  # noqa: E402
from timing import PASSES, PRECISIONS, Bench, allow_tf32, copy_bandwidth  # noqa: E402
from toolchain import build, need, versions  # noqa: E402

from tests.cases import AttentionCase  # noqa: E402
from tests.cuda.emulated import cuda_native  # noqa: E402
from tests.cuda.units import LONG, UNITS, WALKS  # noqa: E402

BATCHES = (32, 256)
ONLY_JUDGED = ("turned", "compile")  # timed in the passes alone that bars are about
WORKERS = 8
CHECKS_SHARE = 0.6  # of the budget, so that there is something left to time in
Rows = list[dict[str, Any]]


def configurations() -> Iterator[tuple[Any, int, str]]:
    for precision in ("float16", "tf32", "float32", "bfloat16"):
        for batch in BATCHES:
            for unit in PAPER:
                yield unit, batch, precision


def warm(part: int) -> None:
    """Fills torch.compile's cache on disk; one of several processes, while the main one builds and checks."""
    torch.backends.cudnn.benchmark = False  # the search is for the timing process
    for index, (unit, batch, precision) in enumerate(configurations()):
        if index % WORKERS == part:
            bench = Bench(unit, batch, precision)
            for which in JUDGED:
                bench.torch_calls(which, compiled=True)[0]()
            del bench
            torch.cuda.empty_cache()


def check(rows: Rows, checker: Checker, module: Any, few: bool, deadline: float) -> str:
    """Appends a row a check; says what there was no time for, or nothing."""
    allow_tf32(False)  # PyTorch's convolutions have it on otherwise, and are the yardstick
    odd, paper, every = odd_cases(), paper_cases(3), list(PRECISIONS)
    whole = [case for case in paper if case.op == "selective_kernel"]
    # Where tensor cores and 16-bit maps differ most: in these, all precisions.
    attention = [case for case in odd if isinstance(case, AttentionCase)]
    stages: list[tuple[str, Iterator[dict[str, Any]]]] = [
        ("odd shapes", checker.all(odd[::4] if few else odd, ["float32"])),
        ("units", checker.all(UNITS, ["float32"])),
        ("tensor cores", checker.all([case for case in odd if "channels a group" in case.why], every)),
        ("attention in 16 bits", checker.all(attention[::4] if few else attention, ["float16", "bfloat16"])),
        ("blocks of many images", checker.all(WALKS[:1], ["float16"], (True,)) if few
         else checker.all(WALKS, ["tf32", "float16", "bfloat16"], (True,))),
    ]  # fmt: skip
    if not few:
        stages += [
            ("the paper's units", checker.all(paper, ["float32"])),
            ("the paper's units in training", checker.all(whole, ["tf32", "float16", "bfloat16"], (True,))),
            ("50 repeats", repeats(checker, module, whole)),
            ("the paper's units in inference", checker.all(whole, ["float16"], (False,))),
            ("many images", checker.all([LONG], ["float32"], (True,))),
            ("dense units", checker.all(dense_cases(2), ["float32"], (True,))),
        ]
    for index, (name, found) in enumerate(stages):
        before, started = len(rows), time.monotonic()
        for row in found:
            rows.append(row)
            if time.monotonic() > deadline:
                left = [f"the rest of {name}", *(name for name, _ in stages[index + 1 :])]
                return "; ".join(left)
        failed = sum(not row["ok"] for row in rows[before:])
        print(f"{name}: {len(rows) - before} checks, {failed} failed, {time.monotonic() - started:.0f} s", flush=True)
    return ""


def repeats(checker: Checker, module: Any, cases: list[Any]) -> Iterator[dict[str, Any]]:
    every = itertools.product(cases, ("float32", "float16"), module.ARRANGEMENTS.values())
    for case, precision, (layout, inside) in every:
        same = checker.repeats(case, precision, layout, inside)
        yield {"op": case.op, "case": f"{case}, 50 times the same bits", "training": True, "precision": precision,
               "layout": named(layout, inside), "wrong": {} if same else {"bits": "differ"}, "ok": same}  # fmt: skip


def timings(rows: Rows, module: Any, library: Any, deadline: float, save: Callable[[], None]) -> None:
    """Appends a row a configuration and pass. What there was no time for is left out, torch.compile's last; a variant
    that fails is named in its row."""
    torch.backends.cudnn.benchmark = True
    by_key: dict[tuple, dict[str, Any]] = {}
    for variants in ((*OURS, "eager"), ("compile",)):
        for unit, batch, precision in configurations():
            if time.monotonic() > deadline:
                return
            bench = Bench(unit, batch, precision)
            for which in PASSES:
                key = (str(unit), batch, precision, which)
                if key not in by_key:
                    by_key[key] = {"unit": str(unit), "channels a group": unit.channels // unit.groups,
                                   "batch": batch, "precision": precision, "pass": which,
                                   "bytes": bench.bytes_moved(which)}  # fmt: skip
                    rows.append(by_key[key])
                for variant in variants:
                    if variant in ONLY_JUDGED and which not in JUDGED:
                        continue
                    try:
                        by_key[key][variant] = bench.variant(variant, which, library, module)
                    except Exception as error:  # out of memory, or a compiler that is missing: the others go on
                        reason = f"{type(error).__name__}: {error}"
                        by_key[key].setdefault("failed", {})[variant] = reason[:500]
                        torch.cuda.synchronize()  # raises if the device is lost, which ends the run
            del bench
            torch.cuda.empty_cache()
            save()


def sanitize(out: Path, library: Path) -> int:
    """The odd shapes under compute-sanitizer's memcheck and racecheck."""
    status = 0
    need(shutil.which("compute-sanitizer"), "compute-sanitizer", "it comes with CUDA's toolkit; put it into PATH")
    for tool in ("memcheck", "racecheck"):
        log = out / f"sanitizer-{tool}.txt"
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "3", "--log-file", str(log)]
        command += [sys.executable, __file__, "--out", str(out / tool), "--mode", "check", "--few"]
        command += ["--library", str(library)]
        # PyTorch's allocator would hide what lies past a tensor behind memory of its own.
        done = subprocess.run(command, env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
        print(f"{tool}: status {done.returncode}\n{log.read_text()[-2000:] if log.exists() else 'no log'}")
        status |= done.returncode
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for build, JSON and table")
    parser.add_argument("--mode", choices=("prove", "check", "sanitize", "warm"), default="prove")
    parser.add_argument("--library", type=Path, help="a library that is built already")
    parser.add_argument("--device", default="cuda", help="cpu runs the checks on the emulated library")
    parser.add_argument("--few", action="store_true", help="a quarter of the odd shapes, none of the paper's")
    parser.add_argument("--seed", type=int, help="of the inputs; a fresh one in every run, which the report names")
    parser.add_argument("--budget", type=float, default=450, help="seconds, 60 %% of them for build and checks")
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    started = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.mode == "warm":
        warm(arguments.part)
        return 0
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device: PyTorch sees none")

    workers = []
    result: dict[str, Any] = {"checks": [], "unfinished": "everything", "timings": []}

    def save(stem: str = "cuda.partial") -> str:
        result["seconds"] = round(time.monotonic() - started, 1)
        text = table(result)
        for suffix, content in ((".json", json.dumps(result, indent=1) + "\n"), (".md", text)):
            fresh = arguments.out / f"{stem}{suffix}.new"
            fresh.write_text(content)
            fresh.replace(arguments.out / f"{stem}{suffix}")  # whatever kills the run: the old file or the new one
        return text

    if arguments.mode == "prove":
        command = [sys.executable, __file__, "--out", str(arguments.out), "--mode", "warm", "--part"]
        workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for i in range(WORKERS)]  # fmt: skip
    try:
        path = arguments.library or build(ROOT, arguments.out)
        if arguments.mode == "sanitize":
            return sanitize(arguments.out, path)
        result["build seconds"] = round(time.monotonic() - started, 1)
        result["seed"] = int(time.time()) if arguments.seed is None else arguments.seed
        print(f"seed {result['seed']}", flush=True)
        prove(result, arguments, path, started, workers, save)
    except Exception:
        traceback.print_exc()
        result["broke off"] = traceback.format_exc(limit=1).splitlines()[-1]
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
    if "broke off" in result:
        print(save() if "seed" in result else result["broke off"])
        return 1
    print(save("cuda"))
    for partial in arguments.out.glob("cuda.partial.*"):
        partial.unlink()
    return 0 if "unfinished" not in result and all(row["ok"] for row in result["checks"]) else 1


def prove(
    result: dict[str, Any],
    arguments: argparse.Namespace,
    path: Path,
    started: float,
    workers: list[subprocess.Popen],
    save: Callable[[], Any],
) -> None:
    """Checks, and in mode "prove" times; everything into `result`, which is saved on the way."""
    module, on_gpu, timed = cuda_native(), arguments.device == "cuda", arguments.mode == "prove"

    def poisoned(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        return torch.full(shape, math.nan, dtype=getattr(torch, dtype), device=arguments.device)

    result["versions"] = versions() if on_gpu else {"device": "emulated, no GPU"}
    # Under the sanitizer no kernels but ours: PyTorch's are not what it is to judge.
    peer_device = "cpu" if arguments.few else arguments.device
    checker = Checker(module, module.Library(path, poisoned), arguments.device, result["seed"], peer_device)
    deadline = started + CHECKS_SHARE * arguments.budget if timed else math.inf
    result["unfinished"] = check(result["checks"], checker, module, arguments.few, deadline)
    if not result["unfinished"]:
        del result["unfinished"]
    result["check seconds"] = round(time.monotonic() - started - result["build seconds"], 1)
    save()
    if not timed:
        return
    for worker in workers:  # they use the device: nothing is timed beside them
        try:
            worker.wait(timeout=max(1.0, CHECKS_SHARE * arguments.budget - (time.monotonic() - started)))
        except subprocess.TimeoutExpired:
            worker.kill()
    result["copy bytes per second"] = copy_bandwidth()
    library = module.Library(path)
    result["preferred"] = {
        f"{precision} {channels}": [
            prefer(channels, "float32" if precision == "tf32" else precision, precision == "tf32")
            for prefer in (library.preferred_layout, library.inside_layout)
        ]
        for precision in PRECISIONS
        for channels in sorted({unit.channels // unit.groups for unit in PAPER})
    }
    timings(result["timings"], module, library, started + arguments.budget, save)
    estimate = (ROOT / "csrc" / "cuda" / "preferred_layout.h").read_text()
    (arguments.out / "preferred_layout.h").write_text(preferred_header(estimate, result))


if __name__ == "__main__":
    sys.exit(main())
