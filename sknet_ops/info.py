# SPDX-License-Identifier: Apache-2.0
"""``python -m sknet_ops.info``: what a bug report needs to say about the machine and the installation."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from sknet_ops import backends, binary

_PACKAGES = ("sknet-ops", "mindspore", "mindcv", "numpy")
_VARIABLES = (
    "SKNET_OPS_BACKEND",
    "SKNET_OPS_ISA",
    "SKNET_OPS_VERBOSE",
    "SKNET_OPS_CUDA_INSIDE",
    "SKNET_OPS_SOC",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)


def lines() -> list[tuple[str, str]]:
    """All facts, as (what, value)."""
    facts = [(name, _version(name)) for name in _PACKAGES]
    facts.append(("python", f"{platform.python_version()} on {platform.platform()}"))
    facts.append(("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs for this process"))
    facts += _library()
    for backend in backends.available_backends():
        facts.append((f"backend {backend.name}", backend.reason or f"available: {backend.about}"))
    facts.append(("backend in use", _asked(backends.active_backend)))
    facts += [(name, os.environ[name]) for name in _VARIABLES if name in os.environ]
    return facts


def main() -> None:
    facts = lines()
    width = max(len(what) for what, _ in facts)
    for what, value in facts:
        print(f"{what:<{width}}  {value}")


def _library() -> list[tuple[str, str]]:
    reason = binary.why_not()
    if reason is not None:
        return [("library", reason)]
    facts = [("library", str(binary.library_path()))]
    chosen = _asked(binary.active_isa)
    facts.append(("instruction set", chosen))
    for isa, why_not in binary.instruction_sets().items():
        if isa != chosen:
            facts.append((f"  not {isa}", why_not or "could run, is not the choice"))
    facts.append(("threads", str(binary.num_threads())))
    return facts


def _asked(question) -> str:
    try:
        return question()
    except (ValueError, RuntimeError, ImportError) as error:
        return f"none: {error}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


if __name__ == "__main__":
    main()
