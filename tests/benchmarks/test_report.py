# SPDX-License-Identifier: Apache-2.0
"""Bars, tables and comparisons of a small run whose figures are known."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import compare, plots, results
from benchmarks.report.__main__ import main
from benchmarks.report.bars import Bar, bars
from benchmarks.report.summary import summary
from benchmarks.report.tables import milliseconds, report
from tests.benchmarks import canned
from tests.conftest import ROOT

README_RUNS = ("full.json", "second_run/full.json", "third_run/full.json", "fourth_run/full.json")


@pytest.fixture
def run() -> dict[str, Any]:
    return canned.run()


def bar(run: dict[str, Any], text: str) -> Bar:
    (found,) = [bar for bar in bars(run) if text in bar.what]
    return found


def test_bars_take_the_best_peer(run: dict[str, Any]) -> None:
    """80 / 20, 50 / 25 and 12 / 10."""
    mean = bar(run, "SK layer forward, kernel, over the best peer: geometric mean")
    assert mean.value == pytest.approx((4.0 * 2.0 * 1.2) ** (1 / 3))
    assert mean.met is False and "3 cases" in mean.note and "ONNX Runtime" in mean.note
    grouped = bar(run, "SK layer forward, kernel, over the best peer: least of the grouped")
    assert (grouped.value, grouped.met) == (pytest.approx(2.0), True)
    assert grouped.note == "sk_grouped/c256_28/forward/b8/warm"
    dense = bar(run, "layer in MindSpore, over the best peer: least of the dense")
    assert (dense.value, dense.verdict) == (pytest.approx(1.0), "missed")


def test_other_bars(run: dict[str, Any]) -> None:
    expected = {
        "least share of the roofline": (0.4, "missed"),  # 10 ms of 25
        "forward + backward, kernel, over the best of torch: least": (3.0, "met"),
        "skresnet18, batch 1, forward, over OpenVINO": (1.3, "met"),
        "skresnet18, batch 1, forward, over ONNX Runtime": (None, "not measured"),
        "skresnet18, batch 8, training step, over torch.compile": (None, "not measured"),
        "kept by a training SK layer": (0.3, "met"),
        "peak memory of a training step": (0.7, "missed"),
        "threads over one": (160 / 84, "met"),
        "linear in batch": (84 / 32 / (20 / 8), "met"),
        "share outside of our ops": (0.05, "met"),
    }
    for text, (value, verdict) in expected.items():
        found = bar(run, text)
        assert (found.value, found.verdict) == (pytest.approx(value) if value else None, verdict), text
    assert bar(run, "skresnet18, batch 1, forward, over ONNX Runtime").note == "onnxruntime is missing"


def test_an_empty_run_meets_no_bar(run: dict[str, Any]) -> None:
    empty = {**run, "results": [], "profiles": [], "memory": {"layers": [], "steps": []}}
    assert {found.verdict for found in bars(empty)} == {"not measured"}
    assert "not measured" in report(empty)


def test_report_shows_it_all(run: dict[str, Any]) -> None:
    text = report(run, ["roofline.png"])
    for expected in (
        "| c128_56 | 8 | 20.0 (19.6..20.4) |",
        "OpenVINO | 4.00 (",
        "| 50 | 0.1 | 50% |",  # 10^9 operations and 10^6 bytes in 20 ms
        "ONNX Runtime: **missing**: onnxruntime is missing",
        "![roofline](roofline.png)",
        "| selective_kernel | 1x64x56x56 | 2 | 9.500 | 95.0% | 11 | 11% |",
        "commit 0123456789ab",
        "**missed**",
    ):
        assert expected in text
    for line in text.splitlines():
        assert "nan" not in line.lower().split()


def test_summary_is_about_the_others(run: dict[str, Any]) -> None:
    """80 / 20, 50 / 25, 12 / 10 of the kernels, 13 / 10 of the network; MindSpore is not among the others."""
    network = run["results"][-1]["times"]
    network |= {"sknet_ops, AVX-512": canned.times(14), "MindSpore capped": canned.times(12)}
    lines = summary([run]).splitlines()
    for expected in (
        "| SK layer, 128 channels, 56 x 56, batch 8, forward | 21.0 (kernel alone 20.0) | 80.0 (OpenVINO) | - |",
        "| skresnet18, batch 1, forward | 10.0 | 13.0 (OpenVINO) | 12.0 |",
        "- SK layers, grouped, forward, kernel: 2.83 times as fast as the best of the others (geometric mean of 2; "
        "each 2.00 to 4.00, least in sk_grouped/c256_28/forward/b8/warm)",
        "- SK layers, dense, forward, kernel: 1.20 times as fast as the best of the others (geometric mean of 1; "
        "each 1.20, least in sk_dense/c64_64_56/forward/b8/warm)",
        "- networks, forward: 1.30 times as fast as the best of the others (geometric mean of 1; each 1.30, "
        "least in networks/skresnet18/forward/b1/warm)",
        "- networks, forward, without AMX (`SKNET_OPS_ISA=avx512`): 1.40 times as long",
    ):
        assert expected in lines
    empty = {**run, "results": [], "roofline": {}, "memory": {"layers": [], "steps": []}}
    assert summary([empty]) == "\n"


def test_summary_of_runs_is_their_range(run: dict[str, Any]) -> None:
    """In the second, ONNX Runtime is the best at 40, and our network took 12 instead of 10."""
    other = copy.deepcopy(run)
    by_id = {result["id"]: result["times"] for result in other["results"]}
    by_id["sk_grouped/c128_56/forward/b8/warm"] |= {"ONNX Runtime": canned.times(40)}
    by_id["networks/skresnet18/forward/b1/warm"] |= {"sknet_ops": canned.times(12)}
    other["roofline"][str(other["threads"])] = {"flops": 90e9, "bandwidth": 20e9}
    lines = summary([run, other]).splitlines()
    for expected in (
        "| SK layer, 128 channels, 56 x 56, batch 8, forward | 21.0 (kernel alone 20.0) | "
        "40.0 to 80.0 (OpenVINO, ONNX Runtime) | - |",
        "| skresnet18, batch 1, forward | 10.0 to 12.0 | 13.0 (OpenVINO) | - |",
        "- this machine's limits: 90 to 100 GFLOP/s, 10 to 20 GB/s",
        "- SK layers, grouped, forward, kernel: 2.00 to 2.83 times as fast as the best of the others (geometric mean "
        "of 2; each 2.00 to 4.00, least in sk_grouped/c256_28/forward/b8/warm)",
        "- networks, forward: 1.08 to 1.30 times as fast as the best of the others (geometric mean of 1; each 1.08 to "
        "1.30, least in networks/skresnet18/forward/b1/warm)",
    ):
        assert expected in lines


def test_readme_shows_the_full_report() -> None:
    expected = summary([results.load(ROOT / "benchmarks/reports" / path) for path in README_RUNS])
    missing = [line for line in expected.splitlines() if line not in (ROOT / "README.md").read_text().splitlines()]
    assert missing == [], "README: put in what `python -m benchmarks.report --summary` prints of the new reports"


def test_milliseconds_has_three_digits() -> None:
    assert [milliseconds(s) for s in (0.0001234, 0.01234, 1.234)] == ["0.123", "12.3", "1234"]


def test_pictures(run: dict[str, Any], tmp_path: Path) -> None:
    reason = plots.why_not()
    if reason is not None:
        pytest.skip(reason)
    names = plots.draw(run, tmp_path)
    assert names == ["roofline.png", "sk_layer_forward.png", "sk_layer_train.png", "networks.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_command(run: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    assert main([str(path)]) == 0
    assert (tmp_path / "run.md").read_text().startswith("# Benchmark report")
    assert "missed" in capsys.readouterr().out
    assert main([str(path), "--summary"]) == 0
    assert capsys.readouterr().out == summary([run])
    assert main([str(path), str(path), "--summary"]) == 0
    assert capsys.readouterr().out == summary([run, run]) == summary([run])
    with pytest.raises(SystemExit):
        main([str(path), str(path)])
    assert "only --summary takes more than one file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".md") == ["run.md"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in ("[]", "{}"):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ValueError, match="expected results"):
            results.load(tmp_path / "other.json")


# ---- comparing ----


def slower(run: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same run with the first case's kernel that much slower."""
    new = copy.deepcopy(run)
    new["results"][0]["times"]["sknet_ops kernel"] = canned.times(20 * factor)
    return new


def test_noise_is_no_regression(run: dict[str, Any]) -> None:
    for factor in (1.0, 1.04, 0.96):
        assert not any(change.regression or change.gain for change in compare.changes(run, slower(run, factor)))


def test_regression_and_gain(run: dict[str, Any]) -> None:
    (worse,) = [change for change in compare.changes(run, slower(run, 1.2)) if change.regression]
    assert (worse.case, worse.contestant) == ("sk_grouped/c128_56/forward/b8/warm", "sknet_ops kernel")
    assert worse.relative == pytest.approx(0.2)
    (better,) = [change for change in compare.changes(run, slower(run, 0.8)) if change.gain]
    assert better.relative == pytest.approx(-0.2)


def test_a_contestant_of_ours_more_is_no_other_case(run: dict[str, Any]) -> None:
    new = slower(run, 1.2)
    new["results"][0]["times"]["sknet_ops, AVX-512"] = canned.times(30)
    assert len(compare.changes(run, new)) == len(compare.changes(run, run))


def test_wide_spreads_are_believed(run: dict[str, Any]) -> None:
    noisy = slower(run, 1.2)
    noisy["results"][0]["times"]["sknet_ops kernel"] = canned.times(24, spread=0.25)
    assert not any(change.regression for change in compare.changes(run, noisy))


def test_a_slower_clock_is_no_regression(run: dict[str, Any]) -> None:
    cool = copy.deepcopy(run)
    cool["roofline"]["2"]["flops"] *= 0.8
    for result in cool["results"]:
        for name, times in result["times"].items():
            result["times"][name] = canned.times(times["median"] * 1e3 / 0.8)
    assert not any(change.regression or change.gain for change in compare.changes(run, cool))


def test_comparing_fails_on_a_regression(run: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(run))
    for changed, code, word in (
        (slower(run, 1.2), 1, "1 slower"),
        (run, 0, "0 slower"),
        ({**run, "threads": 1}, 2, "cannot be compared: threads"),
        ({**run, "results": []}, 2, "no case in common"),
    ):
        new.write_text(json.dumps(changed))
        assert main([str(new), "--compare", str(old)]) == code
        assert word in capsys.readouterr().out
