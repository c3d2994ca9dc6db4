# SPDX-License-Identifier: Apache-2.0
"""A selective-kernel layer, forward and backward, wholly on emulated Ascend kernels, against the C++ reference."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sknet_ops.backends.ascend_ops import Layer, LayerWeights, Norm, unstack
from sknet_ops.backends.ascend_sizes import ConvSizes
from tests.ascend import emulator
from tests.ascend.device import EmulatedDevice
from tests.ascend.layer_cases import SMALL, STAGES, Case, error, expected, make, rounded
from tests.golden import golden_weights

FLOAT32 = 1e-4  # largest error in units of the largest value
SEEDS = 50
# The check of hazards does not depend on the schedule: these seeds have it, the others only compute.
CHECKED_SEEDS = 3


def run(case: Case, training: bool, seed: int, x, dy, w, device: EmulatedDevice | None = None) -> dict[str, Any]:
    """Everything that the reference gives too; a failure names the scheduler's seed."""
    device = device or EmulatedDevice(seed)
    layer = case.layer(training)
    forward = layer.forward(device, x, w)
    grads = layer.backward(device, dy, x, w, forward.get("z"))
    kept = {k: forward[k] for k in ("y", "attention", "attn_moving_mean", "attn_moving_variance") if k in forward}
    if training:
        kept.update({k: unstack(device, forward[k]) for k in ("moving_mean", "moving_variance")})
    return {**kept, **grads}


def check(case: Case, dtype: str, training: bool, seed: int, native: ModuleType, rng: np.random.Generator) -> None:
    x, dy, w = make(case, dtype, rng)
    want = expected(native, case, training, x, dy, w)
    allowed = dict.fromkeys(want, FLOAT32)
    if dtype == "float16":
        best = rounded(case, training, x, dy, w, np.float16)
        allowed = {name: FLOAT32 + 2 * error(best[name], want[name]) for name in want}
    got = run(case, training, seed, x, dy, w)
    assert got.keys() == want.keys()
    errors = {name: error(got[name], want[name]) for name in want}
    bad = {name: (e, allowed[name]) for name, e in errors.items() if not e <= allowed[name]}
    assert not bad, f"scheduler seed {seed}: (error, allowed) {bad}"


MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16"])


@MODES
@DTYPES
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case, dtype: str, training: bool, native: ModuleType, rng: np.random.Generator) -> None:
    check(case, dtype, training, 0, native, rng)


@DTYPES
@pytest.mark.parametrize("case", STAGES, ids=str)
def test_stages(case: Case, dtype: str, native: ModuleType, rng: np.random.Generator) -> None:
    check(case, dtype, True, 1, native, rng)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_schedule_gives_the_same_bits(case: Case, dtype: str, rng: np.random.Generator) -> None:
    """Fifty seeds: no hazard, and not a bit of difference, since every sum has one order."""
    x, dy, w = make(case, dtype, rng)
    first = run(case, True, 0, x, dy, w)
    for seed in range(1, SEEDS):
        again = run(case, True, seed, x, dy, w, EmulatedDevice(seed, check_hazards=seed < CHECKED_SEEDS))
        for name in first:
            a, b = first[name], again[name]
            pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
            assert all(p.tobytes() == q.tobytes() for p, q in pairs), f"scheduler seed {seed}: {name} differs"


def test_the_rounded_computation_without_rounding_is_the_reference(
    native: ModuleType, rng: np.random.Generator
) -> None:
    for case in SMALL[:6]:
        for training in (True, False):
            x, dy, w = make(case, "float32", rng)
            want = expected(native, case, training, x, dy, w)
            got = rounded(case, training, x, dy, w, np.float64)
            assert max(error(got[name], want[name]) for name in want) < 1e-10


def test_a_large_mean_does_not_spoil_the_variance(native: ModuleType, rng: np.random.Generator) -> None:
    """Sums of squares would cancel: the statistics are of deviations."""
    case = STAGES[-1]
    x, dy, w = make(case, "float32", rng)
    x += 300
    want = expected(native, case, True, x, dy, w)
    got = run(case, True, 0, x, dy, w)
    # The convolution itself rounds sums of large terms; its result is what the statistics see.
    for name in ("y", "moving_variance", "moving_mean"):
        assert error(got[name], want[name]) < 2e-3


@pytest.mark.parametrize("soc", ["Ascend910B1", "Ascend910B3"])
def test_chips_with_fewer_cores(soc: str, native: ModuleType, rng: np.random.Generator) -> None:
    case = STAGES[0]
    x, dy, w = make(case, "float32", rng)
    want = expected(native, case, True, x, dy, w)
    got = run(case, True, 0, x, dy, w, EmulatedDevice(0, soc))
    assert max(error(got[name], want[name]) for name in want) < FLOAT32


# ---- timm's results ----


def golden_layers() -> list[int]:
    return list(range(6))


@MODES
@pytest.mark.parametrize("number", golden_layers())
def test_golden_layers(number: int, training: bool, shared_dir: Path) -> None:
    folder = shared_dir / "golden"
    entries = json.loads((folder / "index.json").read_text())["layers"]
    name = f"layer_{number:02}_{'train' if training else 'eval'}.npz"
    entry = next(e for e in entries if e["file"] == name)
    golden = np.load(folder / name)
    kwargs = entry["kwargs"]
    n, c_in, h, w = entry["input"]
    kernels = kwargs.get("kernel_size", [3, 5])
    dilation = tuple((k - 1) // 2 for k in kernels)  # keep_3x3: larger kernels become dilated ones
    groups, stride, split = kwargs.get("groups", 1), kwargs.get("stride", 1), kwargs["split_input"]
    c_out, m = kwargs["out_channels"], len(kernels)
    size = ConvSizes(n, c_in, h, w, c_out, groups, stride, split, (3,) * m, dilation, dilation)
    d = golden["grad.attn.fc_reduce.weight"].shape[0]
    paths = [f"paths.{i}" for i in range(m)]
    shapes = {f"{p}.conv.weight": (c_out, size.cin_group, 3, 3) for p in paths}
    for prefix, channels in [*((f"{p}.bn", c_out) for p in paths), ("attn.bn", d)]:
        shapes.update({f"{prefix}.{v}": (channels,) for v in ("weight", "bias", "running_mean", "running_var")})
    shapes.update({"attn.fc_reduce.weight": (d, c_out, 1, 1), "attn.fc_select.weight": (m * c_out, d, 1, 1)})
    weight = golden_weights(shapes, entry["seed"])
    norms = ("weight", "bias", "running_mean", "running_var")
    weights = LayerWeights(
        [weight[f"{p}.conv.weight"] for p in paths],
        *[[weight[f"{p}.bn.{v}"] for p in paths] for v in norms],
        weight["attn.fc_reduce.weight"][:, :, 0, 0],
        *[weight[f"attn.bn.{v}"] for v in norms],
        weight["attn.fc_select.weight"][:, :, 0, 0],
    )
    x = np.random.default_rng(entry["seed"]).standard_normal(entry["input"]).astype(np.float32)
    dy = np.random.default_rng(entry["seed"] + 1).standard_normal(golden["y"].shape).astype(np.float32)
    layer, device = Layer(size, Norm(training=training), Norm(training=training)), EmulatedDevice(number)
    if c_in % 16 or c_out % 16 or (split and c_in // m % 16):
        with pytest.raises(emulator.Refused, match="expected a multiple of 16"):
            layer.forward(device, x, weights)
        return
    forward = layer.forward(device, x, weights)
    grads = layer.backward(device, dy, x, weights, forward.get("z"))
    got = {"y": forward["y"], "grad_x": grads["dx"], "grad.attn.bn.weight": grads["dattn_gamma"],
           "grad.attn.bn.bias": grads["dattn_beta"], "grad.attn.fc_reduce.weight": grads["dfc_reduce"],
           "grad.attn.fc_select.weight": grads["dfc_select"]}  # fmt: skip
    for i, p in enumerate(paths):
        got.update({f"grad.{p}.conv.weight": grads["dweight"][i], f"grad.{p}.bn.weight": grads["dgamma"][i],
                    f"grad.{p}.bn.bias": grads["dbeta"][i]})  # fmt: skip
        if training:
            got.update({f"buffer.{p}.bn.running_mean": forward["moving_mean"][i],
                        f"buffer.{p}.bn.running_var": forward["moving_variance"][i]})  # fmt: skip
    if training:
        got.update({"buffer.attn.bn.running_mean": forward["attn_moving_mean"],
                    "buffer.attn.bn.running_var": forward["attn_moving_variance"]})  # fmt: skip
    assert got.keys() == set(golden.files)
    for key, value in got.items():
        # What float32 can promise, as the golden results' README has it.
        limit = 3e-5 if key == "y" else 2e-3 if key == "grad.attn.fc_reduce.weight" and training else 5e-4
        assert error(value.reshape(golden[key].shape), golden[key]) <= limit, key
