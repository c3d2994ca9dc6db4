# SPDX-License-Identifier: Apache-2.0
"""Recipes and options."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from sknet.config import Config, ConfigError, load_config, parse_args, save_config
from sknet.engine.schedule import learning_rates
from sknet.models.catalog import get_spec

RECIPES = Path(__file__).resolve().parents[2] / "python" / "configs" / "sknet"


def parse(*argv: str) -> Config:
    return parse_args(list(argv), "sknet train", "test")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_load(path: Path) -> None:
    config = parse("-c", str(path), "--distribute", "False")
    assert config.amp_level == "O0"
    assert config.model in path.stem or path.stem in ("digits", "cifar10")
    get_spec(config.model)
    if config.scheduler == "cosine_decay":
        assert config.warmup_epochs + config.decay_epochs == config.epoch_size


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("skresnet18", {"batch_size": 64, "lr": 0.1, "weight_decay": 4e-5, "epoch_size": 200, "loss_scale": 1024}),
        (
            "skresnet34",
            {"batch_size": 32, "color_jitter": (0.4,), "re_prob": 0.25, "warmup_factor": 0.01, "epoch_size": 250},
        ),
        ("skresnext50_32x4d", {"batch_size": 64, "re_prob": 0.1, "weight_decay": 1e-4, "interpolation": "bicubic"}),
    ],
)
def test_mindcvs_hyper_parameters(name: str, values: dict) -> None:
    config = load_config(RECIPES / f"{name}_ascend.yaml", distribute=False)
    values = {**values, "color_jitter": (0.4,)}  # the default of its train.py
    assert {key: getattr(config, key) for key in values} == values


@pytest.mark.parametrize("name", ["skresnet18", "skresnet34", "skresnext50_32x4d"])
def test_mindcvs_recipes_on_devices_without_mixed_precision(name: str, tmp_path: Path) -> None:
    """What only the file asks for is float32, and a note; what the command line asks for is refused."""
    path = str(RECIPES / f"{name}_ascend.yaml")
    for device in ("CPU", "GPU"):
        config = parse("-c", path, "--device_target", device)
        assert config.amp_level == "O0"
        (note,) = config.notes
        assert note == (
            f"amp_level: O2 in {path}, but device_target {device} has no mixed precision: computing in float32 (O0)"
        )
        save_config(config, tmp_path / "config.yaml")
        assert (tmp_path / "config.yaml").read_text().startswith(f"# {note}\n")
        again = load_config(tmp_path / "config.yaml")
        assert (again, again.notes) == (config, ())
        with pytest.raises(ConfigError, match=f"amp_level: O2 given, .* on device_target {device}; give --amp_lev"):
            parse("-c", path, "--device_target", device, "--amp_level", "O2")
    assert parse("-c", path, "--amp_level", "O0").notes == ()
    config = parse("-c", path, "--device_target", "Ascend")
    assert (config.amp_level, config.notes) == ("O2", ())


def test_there_are_all_recipes() -> None:
    mindcv = [
        f"{m}_{device}" for m in ("skresnet18", "skresnet34", "skresnext50_32x4d") for device in ("ascend", "cpu")
    ]
    assert {p.stem for p in RECIPES.glob("*.yaml")} == {*mindcv, "sknet26", "sknet50", "sknet101", "digits", "cifar10"}


@pytest.mark.parametrize("name", ["skresnet18", "skresnet34", "skresnext50_32x4d"])
def test_recipes_for_the_processor_are_mindcvs(name: str) -> None:
    theirs = load_config(RECIPES / f"{name}_ascend.yaml", distribute=False)
    ours = load_config(RECIPES / f"{name}_cpu.yaml")
    assert ours.lr == theirs.lr / 8
    differ = {key for key, value in dataclasses.asdict(ours).items() if value != getattr(theirs, key)}
    assert differ <= {
        "lr", "loss_scale", "num_classes", "num_parallel_workers", "dataset_sink_mode", "keep_checkpoint_max"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sknet26", "sknet50", "sknet101"])
def test_the_papers_recipe(name: str) -> None:
    config = load_config(RECIPES / f"{name}.yaml")
    rates = learning_rates(config, 1)
    np.testing.assert_allclose(rates, [0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [0.0001] * 10)
    values = config.batch_size, config.momentum, config.weight_decay, config.label_smoothing, config.image_resize
    assert values == (256, 0.9, 1e-4, 0.1, 224)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("lr: 0.5\nbatch_size: 7\nshuffle: False\nscale: [0.2, 0.9]\nmin_lr: 1e-4\n")
    config = parse("--config", str(path), "--lr", "0.25", "--ratio", "0.5", "2", "--drop_remainder")
    assert (config.lr, config.batch_size, config.shuffle, config.drop_remainder) == (0.25, 7, False, True)
    assert (config.scale, config.ratio, config.min_lr) == ((0.2, 0.9), (0.5, 2.0), 1e-4)


@pytest.mark.parametrize("word", ["False", "false", "no", "0", "off"])
def test_false_is_false(word: str) -> None:
    assert parse("--shuffle", word).shuffle is False
    assert parse(f"--shuffle={word}").shuffle is False


@pytest.mark.parametrize("text", ["0.2 0.9", "0.2,0.9", "[0.2, 0.9]", "(0.2,0.9)"])
def test_pairs(text: str) -> None:
    assert parse("--scale", *text.split(" ")).scale == (0.2, 0.9)


def test_saved_config_loads_again(tmp_path: Path) -> None:
    config = load_config(RECIPES / "digits.yaml", seed=5)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert set(yaml.safe_load((tmp_path / "config.yaml").read_text())) == set(vars(config))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("batchsize: 3", "unknown key 'batchsize'; did you mean 'batch_size'?"),
        ("zzz: 3", "unknown key 'zzz'"),
        ("- 3", "expected lines of 'key: value', got list"),
        ("a: [", "is not readable YAML"),
        ("batch_size: many", "batch_size: expected a whole number, got 'many'"),
        ("batch_size: 3.5", "batch_size: expected a whole number, got 3.5"),
        ("batch_size: True", "batch_size: expected a whole number, got True"),
        ("batch_size: 0", "batch_size: expected at least 1, got 0"),
        ("lr: fast", "lr: expected a number, got 'fast'"),
        ("lr: .nan", "lr: expected a finite number, got nan"),
        ("lr: -1", "lr: expected at least 0, got -1.0"),
        ("shuffle: maybe", "shuffle: expected True or False, got 'maybe'"),
        ("shuffle: 1", "shuffle: expected True or False, got 1"),
        ("model: 18", "model: expected text, got 18"),
        ("scale: 0.5", "scale: expected 2 numbers, got 0.5"),
        ("scale: [0.9, 0.2]", "scale: expected 0 < low <= high, got 0.9, 0.2"),
        ("std: [1, 0, 1]", "std: expected positive numbers"),
        ("mode: 2", "mode: expected one of 0, 1; got 2"),
        ("momentum: 1", "momentum: expected below 1, got 1.0"),
        ("crop_pct: 1.5", "crop_pct: expected at most 1, got 1.5"),
        ("interpolation: lanczos", "interpolation: expected one of nearest, bilinear, bicubic, area; got lanczos"),
        ("opt: adamm", "opt: expected one of momentum, nesterov, adamw, lamb; got adamm"),
        ("amp_level: O5", "amp_level: expected one of O0, O1, O2, O3; got O5"),
        ("pretrained: True\nckpt_path: a.ckpt", "pretrained: True given beside a ckpt_path"),
        ("device_target: TPU", "device_target: expected one of Ascend, GPU, CPU; got TPU"),
        (
            "opt: lamb\nuse_nesterov: True",
            "use_nesterov: True given, but this version has not: Nesterov momentum with lamb",
        ),
        ("opt: adamw\neps: 0", "eps: expected above 0 with opt adamw"),
        ("scheduler: multi_step_decay", "multi_step_decay_milestones: expected at least one epoch"),
        ("multi_step_decay_milestones: [3, x]", "multi_step_decay_milestones: expected a whole number, got [3, 'x']"),
        ("dataset_download: True", "dataset_download: True given"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content + "\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--batch-size", "3"], "unknown option '--batch-size'; did you mean '--batch_size'?"),
        (["--learning_rate=3"], "unknown option '--learning_rate'"),
        (["--epoch", "3"], "unknown option '--epoch'; did you mean '--epoch_size'?"),
        (["extra"], "unknown option 'extra'"),
        (["--lr"], "--lr: expected one argument"),
        (["--shuffle", "perhaps"], "shuffle: expected True or False, got 'perhaps'"),
        (["-c", "none.yaml"], "config: no file none.yaml"),
        (["--scale", "1"], "scale: expected 2 numbers"),
    ],
)
def test_bad_options(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    assert words in str(caught.value)
