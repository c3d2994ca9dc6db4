# SPDX-License-Identifier: Apache-2.0
"""Which code runs: chosen by name, told on request, never by silent fallback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import sknet_ops
from sknet_ops import binary, functional, info
from sknet_ops.backends import BackendUnavailableError
from tests.mindspore_tools import relative, tensor
from tests.ops.test_bad_input import selective_kernel

# What each lacks here, as its predicate says it; akg needs two packages that a user may have.
OTHERS = {
    "ascend": "device_target is CPU, expected Ascend",
    "akg": None,
}


def test_available_backends() -> None:
    found = {backend.name: backend for backend in sknet_ops.available_backends()}
    assert list(found) == ["cpu", "reference", *OTHERS, "cuda"]
    assert found["cpu"].available and found["reference"].available
    for name, reason in OTHERS.items():
        if reason is not None:
            assert not found[name].available
            assert reason in found[name].reason
            assert found[name].reason in str(found[name])


def test_default_is_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKNET_OPS_BACKEND", raising=False)
    assert sknet_ops.active_backend() == "cpu" == binary.native_backend()


def test_reference_on_request(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.delenv("SKNET_OPS_BACKEND", raising=False)
    arguments = selective_kernel()
    arguments["x"] = tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 6)))
    fast = functional.selective_kernel(**arguments).asnumpy()
    monkeypatch.setenv("SKNET_OPS_BACKEND", "reference")
    assert sknet_ops.active_backend() == "reference" == binary.native_backend()
    slow = functional.selective_kernel(**arguments).asnumpy()
    assert 0 <= relative(fast, slow) < 1e-5


def test_instruction_sets_agree(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    arguments = selective_kernel()
    arguments["x"] = tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 6)))
    results = {}
    for isa, reason in binary.instruction_sets().items():
        monkeypatch.setenv("SKNET_OPS_ISA", isa)
        if reason is None:
            assert sknet_ops.active_isa() == isa
            results[isa] = functional.selective_kernel(**arguments).asnumpy()
        else:
            with pytest.raises(ValueError, match=f"SKNET_OPS_ISA={isa}"):
                sknet_ops.active_isa()
            with pytest.raises(BackendUnavailableError, match=f"backend cpu cannot run here: .*SKNET_OPS_ISA={isa}"):
                functional.selective_kernel(**arguments)
    assert "scalar" in results
    for result in results.values():
        assert relative(result, results["scalar"]) < 1e-5


@pytest.mark.parametrize("name", [name for name, reason in OTHERS.items() if reason])
def test_backend_that_is_not_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", name)
    with pytest.raises(BackendUnavailableError, match=f"^backend {name} cannot run here: .*{OTHERS[name]}"):
        functional.selective_kernel(**selective_kernel())


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", "tpu")
    message = "^SKNET_OPS_BACKEND: got 'tpu', expected one of cpu, reference, ascend, akg, cuda$"
    with pytest.raises(ValueError, match=message):
        functional.selective_kernel(**selective_kernel())


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_other_device_target(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ms, "get_context", lambda name: target if name == "device_target" else None)
    message = f"backend cpu cannot run here: MindSpore's device_target is {target}, expected CPU"
    with pytest.raises(BackendUnavailableError, match=message):
        functional.selective_kernel(**selective_kernel())


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing works; the first use says what to run."""
    monkeypatch.setattr(binary, "LIBRARY", Path("/nowhere/libsknet_ops.so"))
    with pytest.raises(binary.BinaryMissingError, match="/nowhere/libsknet_ops.so is missing: build it with `pip inst"):
        functional.selective_kernel(**selective_kernel())
    with pytest.raises(ImportError, match="is missing"):
        binary.library()
    assert ("library", binary.why_not()) in info.lines()


def test_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libsknet_ops.so"
    broken.write_text("not a library")
    monkeypatch.setattr(binary, "LIBRARY", broken)
    with pytest.raises(ImportError, match="does not load .*build it anew"):
        binary.library()


def test_set_num_threads() -> None:
    automatic = sknet_ops.num_threads()
    try:
        sknet_ops.set_num_threads(1)
        assert sknet_ops.num_threads() == 1
    finally:
        sknet_ops.set_num_threads(0)
    assert sknet_ops.num_threads() == automatic


def run_python(program: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "SKNET_OPS_BACKEND")}
    return subprocess.run(
        [sys.executable, "-c", program], env={**kept, **environment}, capture_output=True, text=True, check=True
    )


def test_mindspore_does_not_decide_the_threads() -> None:
    """MindSpore sets OMP_NUM_THREADS=1 for the process where it is unset."""
    program = "import sknet_ops; print(sknet_ops.num_threads())"
    cpus = len(os.sched_getaffinity(0))
    assert int(run_python(program).stdout) == min(cpus, sknet_ops.num_threads())
    assert int(run_python(program, OMP_NUM_THREADS="1").stdout) == 1


def test_verbose_says_what_runs() -> None:
    program = "from sknet_ops import primitives; primitives.sk_select()"
    quiet, loud = run_python(program), run_python(program, SKNET_OPS_VERBOSE="1")
    assert "sknet_ops:" not in quiet.stderr
    assert f"sknet_ops: sk_select(): backend cpu, {sknet_ops.active_isa()}, by the default" in loud.stderr
    loud = run_python(program, SKNET_OPS_VERBOSE="1", SKNET_OPS_BACKEND="reference")
    assert "sknet_ops: sk_select(): backend reference, by SKNET_OPS_BACKEND" in loud.stderr


def test_info() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sknet_ops.info"], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    facts = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line.strip())
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    assert facts["mindspore"] == ms.__version__
    assert facts["library"] == str(binary.library_path())
    assert facts["instruction set"] == sknet_ops.active_isa()
    assert facts["backend in use"] == sknet_ops.active_backend()
    assert facts["backend akg"].endswith("not part of this version of sknet_ops")
