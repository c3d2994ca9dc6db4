# SPDX-License-Identifier: Apache-2.0
"""Shape files, and what the suites make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sknet.macs import count_layers
from sknet.models.catalog import get_spec

from benchmarks import suites
from benchmarks.harness import cases as module
from benchmarks.harness.cases import cases, cost, families, load_shapes
from benchmarks.harness.contestants import ALL
from sknet_ops import costs


@pytest.mark.parametrize("family", families())
def test_shape_files_are_valid(family: str) -> None:
    kind, shapes = load_shapes(family)
    assert shapes
    for shape in shapes:
        if kind == "network":
            continue
        groups = shape.get("groups", 1)
        branch_in = shape["c_in"] // 2 if shape.get("split_input") else shape["c_in"]
        assert branch_in % groups == 0 and shape["c_out"] % groups == 0
        assert shape["stride"] in (1, 2)
        assert not shape.get("residual") or (shape["stride"], shape["relu"]) == (1, True)


def test_the_papers_shapes_are_there() -> None:
    _, shapes = load_shapes("sk_grouped")
    found = {(s["c_in"], s["hw"], s["stride"]) for s in shapes}
    assert found == {(128, 56, 1), (256, 28, 1), (512, 14, 1), (1024, 7, 1), (128, 112, 2), (256, 56, 2), (512, 28, 2),
                     (1024, 14, 2)}  # fmt: skip
    assert {s["groups"] for s in shapes} == {32}


def test_dense_shapes_are_those_of_skresnet18() -> None:
    _, shapes = load_shapes("sk_dense")
    ours = {(s["c_out"], s["hw"] // s["stride"]) for s in shapes}
    layers = [layer for layer in count_layers(get_spec("skresnet18")) if layer.kind.startswith("selective kernel")]
    assert ours == {layer.shape[:2] for layer in layers}


@pytest.mark.parametrize("shape", load_shapes("networks")[1], ids=lambda shape: shape["name"])
def test_networks_are_those_of_the_catalog(shape: dict) -> None:
    spec = get_spec(shape["name"])
    assert (shape["block"], tuple(shape["layers"])) == (spec.block, spec.layers)
    assert (shape["groups"], shape["base_width"], shape["pool"]) == (spec.groups, spec.base_width, spec.pool)
    assert shape["relu_after_conv1"] == spec.relu_after_conv1
    sk = {"rd_ratio": 1 / 16, "rd_divisor": 8, "split_input": True} | spec.sk
    assert {name: shape[name] for name in sk} == sk
    layers = count_layers(spec, (shape["size"], shape["size"]))
    assert shape["macs"] == sum(layer.macs for layer in layers)
    assert shape["params"] == sum(layer.params for layer in layers)


def test_bad_shape_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHAPES", tmp_path)
    fields = dict.fromkeys(("name", *module.FIELDS["conv_bn_act"]), 1)
    for shapes, message in (([{"name": "a"}], "got fields"), ([fields, fields], "each once")):
        (tmp_path / "bad.json").write_text(json.dumps({"kind": "conv_bn_act", "shapes": shapes}))
        with pytest.raises(ValueError, match=message):
            load_shapes("bad")


@pytest.mark.parametrize("suite", ["smoke", "quick", "full"])
def test_suites_hold_together(suite: str) -> None:
    entries = suites.entries(suite)
    assert entries
    for entry in entries:
        assert set(entry.contestants) <= set(ALL)
        assert cost(entry.case)[0] > 0
        assert module.Case.from_json(json.loads(json.dumps(entry.case.to_json()))) == entry.case
    keys = [(entry.case.id, tuple(c.name for c in entry.contestants)) for entry in entries]
    assert len(set(keys)) == len(keys)


def test_the_full_suite_has_what_the_bars_need() -> None:
    ids = {entry.case.id for entry in suites.entries("full")}
    for family in ("sk_grouped", "sk_dense"):
        for shape in load_shapes(family)[1]:
            for batch in (1, 8, 32):
                assert f"{family}/{shape['name']}/forward/b{batch}/warm" in ids
            assert f"{family}/{shape['name']}/train/b8/warm" in ids
    for name in ("skresnet18", "skresnext50_32x4d.timm", "sknet50"):
        assert {f"networks/{name}/forward/b1/warm", f"networks/{name}/forward/b8/warm"} <= ids
    for name in ("skresnet18", "skresnext50_32x4d.timm"):
        assert f"networks/{name}/step/b8/warm" in ids


# ---- costs, by hand ----


def test_cost_of_a_grouped_layer() -> None:
    (case,) = cases("sk_grouped", (8,), names=("c128_56",))
    flops, moved = cost(case)
    positions = 8 * 128 * 56 * 56
    conv = 2 * 2 * positions * 4 * 9  # two branches, two operations, four channels a group, nine taps
    dense = 2 * 8 * (32 * 128 + 2 * 128 * 32)
    assert flops == conv + dense + 2 * 2 * positions
    floats = 2 * positions + 2 * 128 * 4 * 9 + 2 * 4 * 128 + 32 * 128 + 4 * 32 + 256 * 32 + 8 * 2 * 128
    assert moved == 4 * floats
    assert conv / 475e9 == pytest.approx(0.97e-3, rel=0.01)  # the known arithmetic limit at 475 GFLOP/s


def test_cost_of_a_dense_strided_layer() -> None:
    (case,) = cases("sk_dense", (1,), names=("c64_128_56_s2",))
    flops, _ = cost(case)
    positions = 128 * 28 * 28
    assert flops == 2 * 2 * positions * 32 * 9 + 2 * (16 * 128 + 2 * 128 * 16) + 2 * 2 * positions


def test_cost_of_training_is_three_passes() -> None:
    (forward,) = cases("sk_grouped", (8,), names=("c256_28",))
    (train,) = cases("sk_grouped", (8,), "train", names=("c256_28",))
    assert cost(train)[0] == 3 * cost(forward)[0]
    z = 4 * 8 * 2 * 256 * 28 * 28  # what training writes besides, all but small change, and reads again
    assert cost(train)[1] == pytest.approx(2 * (cost(forward)[1] + z), rel=0.01)


def test_cost_of_a_convolution() -> None:
    (case,) = cases("conv_bn_act", (8,), names=("c64_64_56_k3_residual",))
    positions = 8 * 64 * 56 * 56
    assert cost(case) == (2 * positions * 64 * 9, 4 * (3 * positions + 64 * 64 * 9 + 4 * 64))


def test_cost_of_a_network() -> None:
    (case,) = cases("networks", (8,), names=("skresnet18",))
    assert cost(case)[0] == 2 * 8 * case.shape["macs"]


def test_costs_of_gradients_and_parts() -> None:
    u, a = (2, 3, 4, 5, 6), (2, 3, 4)
    assert costs.cost("sk_select", [u, a, (2, 4, 5, 6)]) == (2 * 720, 4 * (720 + 24 + 240))
    assert costs.cost("sk_select_grad", [(2, 4, 5, 6), u, a, u, a])[0] == 4 * 720
    assert costs.cost("max_pool", [(2, 4, 5, 6), (2, 4, 3, 3)]) == (0, 4 * (240 + 72))
    attention = [u, (8, 4), *[(8,)] * 4, (12, 8), a]
    assert costs.cost("sk_attention", attention)[0] == 2 * 2 * (8 * 4 + 12 * 8)
    x, w, v = (2, 4, 5, 5), (6, 2, 3, 3), (6,)
    y = (2, 6, 5, 5)
    assert costs.cost("conv_bn_act", [x, w, v, v, v, v, y])[0] == 2 * 300 * 18
    assert costs.cost("conv_bn_act_grad", [y, x, w, v, v, v, v, y, x, w, v, v])[0] == 4 * 300 * 18
    branches = [x, w, w, *[v] * 8]
    assert costs.cost("sk_conv", [*branches, (2, 2, 6, 5, 5)])[0] == 2 * 2 * 300 * 18
    assert costs.cost("sk_conv_grad", [(2, 2, 6, 5, 5), *branches, x])[0] == 4 * 2 * 300 * 18
    with pytest.raises(ValueError, match="'pool'"):
        costs.cost("pool", [])
