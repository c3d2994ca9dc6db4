# SPDX-License-Identifier: Apache-2.0
"""The machine: what it is, what it can do, and whether somebody else is using it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.harness.contestants import ROOT


def describe() -> dict[str, Any]:
    """Processor, caches, memory, system, and the state of the checkout."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "instruction_sets": _instruction_sets(),
        "caches": _caches(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "load": os.getloadavg()[0],
    }


class CpuClock:
    """Time that the machine's CPUs spent on anything but us and our workers, as a share of all; from /proc."""

    def __init__(self) -> None:
        self.start = self._read()

    def foreign_share(self, ours: float) -> float:
        """Since the start, if `ours` CPU seconds of it were ours. Time that the hypervisor took counts as foreign."""
        busy, total = (now - then for now, then in zip(self._read(), self.start, strict=True))
        return max(0.0, busy - ours) / total if total else 0.0

    @staticmethod
    def _read() -> tuple[float, float]:
        try:
            ticks = [int(t) for t in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        except (OSError, ValueError):
            return 0.0, 0.0
        hertz = os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]
        return (sum(ticks) - idle) / hertz, sum(ticks) / hertz


def cpu_seconds(pid: int | None = None) -> float:
    """CPU time of one process, or of this one."""
    try:
        fields = Path(f"/proc/{pid or os.getpid()}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _instruction_sets() -> list[str]:
    flags = set((_field("/proc/cpuinfo", "flags") or _field("/proc/cpuinfo", "Features")).split())
    known = ("sse2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve")
    return [name for name in known if name in flags]


def _caches() -> dict[str, str]:
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
