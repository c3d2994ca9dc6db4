# SPDX-License-Identifier: Apache-2.0
"""The script for the first person with an NPU runs, here on the CPU's kernels."""

from __future__ import annotations

import pytest

from scripts import ascend_device


def test_one_layer(mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cpu")  # put back after the test
    arguments = ["--target", "CPU", "--backend", "cpu", "--mode", mode, "--layers", "1", "--batch", "4"]
    status = ascend_device.main([*arguments, "--repeats", "1"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert " 1024 x  7^2 / 1  float32  output " in printed and "  ok  step: ours " in printed


def test_a_wrong_result_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cpu")
    monkeypatch.setitem(ascend_device.ALLOWED, "float32", (0.0, 0.0))
    arguments = ["--target", "CPU", "--backend", "cpu", "--mode", "pynative", "--layers", "1", "--batch", "2"]
    assert ascend_device.main([*arguments, "--repeats", "1"]) == 1
    assert "WRONG" in capsys.readouterr().out
