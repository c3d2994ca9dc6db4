# SPDX-License-Identifier: Apache-2.0
"""Who takes part, and the processes that they run in."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".benchmarks"  # logs and compiled graphs; git ignores it

# glibc keeps its memory: else page faults make some frameworks up to ten times slower, which is no victory of ours.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # in huge pages, with which each is up to 20 % faster
}
# What a shell may have set and would favour or hinder one of them.
_CLEARED = ("OMP_", "KMP_", "GOMP_", "ONEDNN_", "DNNL_", "MKL_", "OPENBLAS_", "ORT_", "TORCH", "OV_", "MALLOC_",
            "GLIBC_TUNABLES", "SKNET_OPS_BACKEND", "LD_PRELOAD")  # fmt: skip
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Contestant:
    """One column of the tables.

    Attributes:
        name: As the report shows it.
        plugin: Module in benchmarks.peers.
        ours: Whether it is sknet_ops.
        peers: Whether it runs in the environment of the other frameworks.
        environment: Variables of its process.
        threads: 0 for as many as the suite is told.
    """

    name: str
    plugin: str
    ours: bool = False
    peers: bool = False
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    threads: int = 0


KERNEL = Contestant("sknet_ops kernel", "sknet_native", ours=True)
KERNEL_1 = Contestant("sknet_ops kernel, 1 thread", "sknet_native", ours=True, threads=1)
LAYER = Contestant("sknet_ops", "sknet_mindspore", ours=True)
VECTORS = Contestant(  # what AMX is worth
    "sknet_ops, AVX-512", "sknet_mindspore", ours=True, environment={"SKNET_OPS_ISA": "avx512"}
)
TORCH = Contestant("torch eager", "torch_eager", peers=True)
COMPILE = Contestant(
    "torch.compile", "torch_compile", peers=True, environment={"TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor")}
)
ONNX = Contestant("ONNX Runtime", "onnx_runtime", peers=True)
OPENVINO = Contestant("OpenVINO", "openvino_runtime", peers=True)
CAPPED = Contestant("MindSpore capped", "mindspore_mindcv", environment={"ONEDNN_MAX_CPU_ISA": "AVX2"})
PLAIN = Contestant("MindSpore as it comes", "mindspore_mindcv")

ALL = (KERNEL, KERNEL_1, LAYER, VECTORS, TORCH, COMPILE, ONNX, OPENVINO, CAPPED, PLAIN)


def peers_python() -> str:
    """Interpreter of the other frameworks: SKNET_BENCH_PYTHON, else .venv-bench, else this one."""
    own = ROOT / ".venv-bench" / "bin" / "python"
    return os.environ.get("SKNET_BENCH_PYTHON") or (str(own) if own.exists() else sys.executable)


def available_threads() -> int:
    return len(os.sched_getaffinity(0))


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """What every measured process gets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CLEARED)}
    path = os.pathsep.join([str(ROOT), str(ROOT / "python")])  # this checkout is what is measured
    return {**kept, **ALLOCATOR, "PYTHONPATH": path, "GLOG_v": "3", "PYTHONHASHSEED": "0", **(extra or {})}


class WorkerError(Exception):
    """A worker did not answer, or answered with an error."""


class UnsupportedCase(Exception):
    """The contestant does not have the case."""


class Process:
    """A worker process. It is stopped (SIGSTOP) except while it answers, so that it cannot disturb the others."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        self.contestant = contestant
        self.threads = contestant.threads or threads
        self.process: subprocess.Popen | None = None
        self.log: BinaryIO | None = None

    def ask(self, do: str, timeout: float = 600, **arguments: Any) -> dict[str, Any]:
        """The answer to one request. The process is started at the first.

        Raises:
            WorkerError: It failed, died, or took longer than `timeout` seconds; then it is started anew next time.
            UnsupportedCase: The contestant does not have the case.
        """
        if self.process is None:
            self._start()
        self._signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(timeout)
        except (OSError, WorkerError) as error:
            # A pipe breaks a moment before the process can be asked how it ended.
            code = self.process.wait(10) if isinstance(error, BrokenPipeError) else self.process.poll()
            self.close()
            died = f"died with status {code}" if code is not None else str(error)
            raise WorkerError(f"{do}: {died}; see {self._log_path()}") from error
        self._signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "unsupported" in answer:
            raise UnsupportedCase(answer["unsupported"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process and what it started."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            with contextlib.suppress(BrokenPipeError):  # what it was sent and never read
                self.process.stdin.close()
            self.process.stdout.close()
            self.process = None
            self.log.close()

    def _start(self) -> None:
        WORK.mkdir(exist_ok=True)
        self.log = self._log_path().open("wb")
        python = peers_python() if self.contestant.peers else sys.executable
        extra = dict(self.contestant.environment)
        if self.contestant.ours:
            extra["OMP_NUM_THREADS"] = str(self.threads)
        cpus = sorted(os.sched_getaffinity(0))[: self.threads]

        def prepare() -> None:
            os.sched_setaffinity(0, cpus)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no stopped process stays behind

        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.harness.worker", self.contestant.plugin, str(self.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=WORK,  # some frameworks write files where they are
            env=environment(extra),
            start_new_session=True,  # a group of its own, helpers included
            preexec_fn=prepare,
        )

    def _line(self, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise WorkerError(f"no answer in {timeout:.0f} s")
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                self.process.wait(10)
                raise WorkerError("died")
            text += part
        return text

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _log_path(self) -> Path:
        name = "".join(letter if letter.isalnum() else "_" for letter in self.contestant.name)
        return WORK / f"{name}.log"
