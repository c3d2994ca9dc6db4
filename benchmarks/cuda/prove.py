# SPDX-License-Identifier: Apache-2.0
"""Builds the CUDA library, checks every op on the GPU, times the SK unit against PyTorch. Needs PyTorch, nvcc,
CMake and a GPU.

    python benchmarks/cuda/prove.py --out results                   build, check, time; under 8 minutes
    python benchmarks/cuda/prove.py --out results --mode sanitize   compute-sanitizer: memcheck, then racecheck
    python benchmarks/cuda/prove.py --out results --mode check      build and check alone

Maps are checked and timed in both layouts, and in NCHW with channels last inside the unit. Writes <out>/cuda.json (all
numbers, device, versions), <out>/cuda.md (the table) and <out>/preferred_layout.h (what csrc/cuda/preferred_layout.h
has as an estimate, measured), and leaves with status 1 if any check failed. Bars that speed has to meet are judged in
the table; they do not change the status.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import torch  # noqa: E402
from check import Checker, named, odd_cases, paper_cases, split_cases  # noqa: E402
from report import JUDGED, OURS, preferred_header, table  # noqa: E402
from sk_torch import PAPER  # noqa: E402
from timing import PASSES, PRECISIONS, Bench, allow_tf32, copy_bandwidth  # noqa: E402

from tests.cuda.units import LONG, UNITS  # noqa: E402

BATCHES = (32, 256)
ONLY_JUDGED = ("turned", "compile")  # timed in the passes alone that bars are about
WORKERS = 8


def native() -> Any:
    """sknet_ops.backends.cuda_native alone: the package around it would load MindSpore."""
    spec = importlib.util.spec_from_file_location("cuda_native", ROOT / "sknet_ops" / "backends" / "cuda_native.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(out: Path) -> Path:
    """The library for this device alone; quick, and what a user's build for it would contain."""
    major, minor = torch.cuda.get_device_capability()
    folder = out / "build"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for step in (
        ["cmake", "-S", str(ROOT), "-B", str(folder), *generator, "-DCMAKE_BUILD_TYPE=Release",
         "-DSKNET_OPS_PYTHON=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}"],
        ["cmake", "--build", str(folder), "--target", "sknet_ops_cuda", "--parallel", str(os.cpu_count())],
    ):  # fmt: skip
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(step)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return folder / "sknet_ops" / "lib" / "libsknet_ops_cuda.so"


def versions() -> dict[str, str]:
    nvcc = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout.strip().splitlines()
    return {
        "device": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "torch": torch.__version__,
        "cuda of torch": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "nvcc": nvcc[-1] if nvcc else "not found",
        "python": platform.python_version(),
    }


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


def check(module: Any, library: Any, device: str, few: bool, seed: int) -> list[dict[str, Any]]:
    allow_tf32(False)  # PyTorch's convolutions have it on otherwise, and are the yardstick
    # Under the sanitizer no kernels but ours: PyTorch's are not what it is to judge.
    checker = Checker(module, library, device, seed, peer_device="cpu" if few else device)
    odd = odd_cases()
    rows = list(checker.all(odd[::4] if few else odd, ["float32"]))
    rows += checker.all(UNITS, ["float32"])
    # Where tensor cores and 16-bit maps differ most: in these, all precisions.
    rows += checker.all([case for case in odd if "channels a group" in case.why], list(PRECISIONS))
    if not few:
        paper = paper_cases(3)
        whole = [case for case in paper if case.op == "selective_kernel"]
        rows += checker.all(paper, ["float32"])
        rows += checker.all(whole, ["tf32", "float16", "bfloat16"], modes=(True,))
        rows += checker.all(whole, ["float16"], modes=(False,))
        rows += checker.all([LONG], ["float32"], modes=(True,))
        rows += checker.all(split_cases(2), ["float32"], modes=(True,))
        every = itertools.product(whole, ("float32", "float16"), module.ARRANGEMENTS.values())
        for case, precision, (layout, inside) in every:
            same = checker.repeats(case, precision, layout, inside)
            rows.append({"op": case.op, "case": f"{case}, 50 times the same bits", "training": True,
                         "precision": precision, "layout": named(layout, inside), "worst": 0.0,
                         "wrong": {} if same else {"bits": math.inf}, "ok": same})  # fmt: skip
    return rows


def timings(module: Any, library: Any, deadline: float) -> list[dict[str, Any]]:
    """A row a configuration and pass. What there was no time for is left out, torch.compile's last."""
    torch.backends.cudnn.benchmark = True
    rows: dict[tuple, dict[str, Any]] = {}
    for variants in ((*OURS, "eager"), ("compile",)):
        for unit, batch, precision in configurations():
            if time.monotonic() > deadline:
                return list(rows.values())
            bench = Bench(unit, batch, precision)
            for which in PASSES:
                key = (str(unit), batch, precision, which)
                row = rows.setdefault(key, {"unit": str(unit), "channels a group": unit.channels // unit.groups,
                                            "batch": batch, "precision": precision, "pass": which,
                                            "bytes": bench.bytes_moved(which)})  # fmt: skip
                for variant in variants:
                    if variant in ONLY_JUDGED and which not in JUDGED:
                        continue
                    if variant in OURS:
                        calls = bench.our_calls(which, library, *module.ARRANGEMENTS[variant])
                    else:
                        calls = bench.torch_calls(which, variant == "compile")
                    row[variant] = bench.measure(calls)
            del bench, calls
            torch.cuda.empty_cache()
    return list(rows.values())


def sanitize(out: Path, library: Path) -> int:
    """The odd shapes under compute-sanitizer's memcheck and racecheck."""
    status = 0
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
    parser.add_argument("--budget", type=float, default=450, help="seconds for everything")
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
    if arguments.mode == "prove":
        command = [sys.executable, __file__, "--out", str(arguments.out), "--mode", "warm", "--part"]
        workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for i in range(WORKERS)]  # fmt: skip
    try:
        path = arguments.library or build(arguments.out)
        result: dict[str, Any] = {"build seconds": round(time.monotonic() - started, 1)}
        if arguments.mode == "sanitize":
            return sanitize(arguments.out, path)
        module = native()

        def poisoned(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
            return torch.full(shape, math.nan, dtype=getattr(torch, dtype), device=arguments.device)

        result["versions"] = versions() if arguments.device == "cuda" else {"device": "emulated, no GPU"}
        result["seed"] = int(time.time()) if arguments.seed is None else arguments.seed
        library = module.Library(path, poisoned)
        result["checks"] = check(module, library, arguments.device, arguments.few, result["seed"])
        result["check seconds"] = round(time.monotonic() - started - result["build seconds"], 1)
        if arguments.mode == "prove":
            for worker in workers:  # they use the device: nothing is timed beside them
                try:
                    worker.wait(timeout=max(1.0, 0.45 * arguments.budget - (time.monotonic() - started)))
                except subprocess.TimeoutExpired:
                    worker.kill()
            result["copy bytes per second"] = copy_bandwidth()
            library = module.Library(path)
            result["timings"] = timings(module, library, started + arguments.budget)
            result["preferred"] = {
                f"{precision} {channels}": [
                    prefer(channels, "float32" if precision == "tf32" else precision, precision == "tf32")
                    for prefer in (library.preferred_layout, library.inside_layout)
                ]
                for precision in PRECISIONS
                for channels in sorted({unit.channels // unit.groups for unit in PAPER})
            }
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
    result["seconds"] = round(time.monotonic() - started, 1)
    (arguments.out / "cuda.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (arguments.out / "cuda.md").write_text(text)
    if result.get("timings"):
        estimate = (ROOT / "csrc" / "cuda" / "preferred_layout.h").read_text()
        (arguments.out / "preferred_layout.h").write_text(preferred_header(estimate, result))
    print(text)
    return 0 if all(row["ok"] for row in result["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
