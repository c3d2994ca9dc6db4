# SPDX-License-Identifier: Apache-2.0
"""The odd shapes under compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from toolchain import need

TOOLS = ("memcheck", "racecheck", "synccheck")


def sanitize(script: str, out: Path, library: Path, tools: list[str], seconds: float) -> int:
    """Each tool gets `seconds`. 0 if all of them ended and found nothing."""
    status = 0
    need(shutil.which("compute-sanitizer"), "compute-sanitizer", "it comes with CUDA's toolkit; put it into PATH")
    for tool in tools:
        log = out / f"sanitizer-{tool}.txt"
        # What kernels do, alone: the library checks its calls, and Python's stack asks for entries that may be absent.
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "3", "--report-api-errors", "no",
                   "--launch-timeout", "0", "--log-file", str(log)]  # fmt: skip
        command += [sys.executable, script, "--out", str(out / tool), "--mode", "check", "--few"]
        command += ["--library", str(library)]
        # PyTorch's allocator would hide what lies past a tensor behind memory of its own.
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        try:
            found = subprocess.run(command, env=environment, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            found = 1
            print(f"{tool}: not done after {seconds:.0f} s")
        print(f"{tool}: status {found}\n{log.read_text()[-2000:] if log.exists() else 'no log'}", flush=True)
        status |= found
    return status
