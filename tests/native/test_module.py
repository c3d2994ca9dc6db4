# SPDX-License-Identifier: Apache-2.0
"""Choice of backend and instruction set."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.conftest import ISAS

ALL_ISAS = ["scalar", "avx2", "avx512", "neon", "amx"]


def test_cpu_isas(native: ModuleType) -> None:
    isas = native.cpu_isas()
    assert list(isas) == ALL_ISAS
    assert isas["scalar"] is None
    assert all(reason is None or len(reason) > 5 for reason in isas.values())
    # Nothing runs both.
    assert isas["neon"] or (isas["avx2"] and isas["avx512"] and isas["amx"])


def test_best_is_active(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKNET_OPS_ISA", raising=False)
    runnable = [name for name in ISAS if native.cpu_isas()[name] is None]
    assert native.active_isa() == runnable[-1]


def test_environment_forces_isa(isa: str, native: ModuleType, monkeypatch: pytest.MonkeyPatch, rng) -> None:
    monkeypatch.setenv("SKNET_OPS_ISA", isa)
    assert native.active_isa() == isa
    u = rng.normal(0, 1, (2, 3, 5, 7, 7)).astype(np.float32)
    attention = rng.normal(0, 1, (2, 3, 5)).astype(np.float32)
    assert np.array_equal(native.sk_select(u, attention)["y"], native.sk_select(u, attention, isa=isa)["y"])


@pytest.mark.parametrize("name", ["sse9", "AVX-512", " "])
def test_unknown_isa_in_environment(name: str, native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKNET_OPS_ISA", name)
    with pytest.raises(ValueError, match="SKNET_OPS_ISA.*scalar"):
        native.active_isa()


def _absent(native: ModuleType) -> str:
    return next(name for name, reason in native.cpu_isas().items() if reason is not None)


def test_isa_that_cannot_run(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = _absent(native)
    u, attention = np.zeros((1, 1, 1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    with pytest.raises(ValueError, match=absent):
        native.sk_select(u, attention, isa=absent)
    monkeypatch.setenv("SKNET_OPS_ISA", absent)
    with pytest.raises(ValueError, match=absent):
        native.sk_select(u, attention)


def test_backend_from_environment(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKNET_OPS_BACKEND", raising=False)
    assert native.active_backend() == "cpu"
    monkeypatch.setenv("SKNET_OPS_BACKEND", "reference")
    assert native.active_backend() == "reference"
    monkeypatch.setenv("SKNET_OPS_BACKEND", "gpu")
    with pytest.raises(ValueError, match="SKNET_OPS_BACKEND.*gpu.*reference"):
        native.active_backend()
