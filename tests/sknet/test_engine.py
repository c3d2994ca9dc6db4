# SPDX-License-Identifier: Apache-2.0
"""The training loop and its parts."""

import csv
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from PIL import Image
from sknet import create_model
from sknet.config import Config, ConfigError, load_config
from sknet.data.folder import DataError
from sknet.engine import TrainingError, train, validate
from sknet.engine import checkpoint as checkpoints
from sknet.engine import trainer as trainer_module
from sknet.engine.curves import plot_curves
from sknet.engine.environment import add_start, git_state
from sknet.engine.log import TensorBoardLog
from sknet.engine.optimizer import create_optimizer, parameter_groups
from sknet.engine.schedule import learning_rates
from sknet.engine.state import State
from sknet.engine.step import BinaryCrossEntropy, CrossEntropy, TrainStep
from sknet.models import catalog


@pytest.fixture
def settings(image_folder, tmp_path: Path):
    """A recipe of seconds: settings(lr=...)."""
    root = image_folder({"train": 12, "val": 5})

    def make(**values) -> Config:
        defaults = {
            "data_dir": str(root),
            "ckpt_save_dir": str(tmp_path / "run"),
            "model": "sknet_tiny",
            "image_resize": 16,
            "batch_size": 8,
            "epoch_size": 2,
            "warmup_epochs": 0,
            "decay_epochs": 2,
            "lr": 0.05,
            "num_parallel_workers": 2,
        }
        return load_config(None, **{**defaults, **values})

    return make


def rows_of(run: Path) -> list[dict]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, as tag -> (step, value)."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_as_rows(shown: dict, rows: list[dict]) -> None:
    for tag, column in (("train/loss", "train_loss"), ("train/lr", "lr"), ("val/top1", "val_top1")):
        assert [step for step, _ in shown[tag]] == [int(row["step"]) for row in rows]
        np.testing.assert_allclose([value for _, value in shown[tag]], [float(row[column]) for row in rows], rtol=1e-6)


# ---- parts ----


@pytest.mark.parametrize(
    "values",
    [
        {"epoch_size": 10, "warmup_epochs": 2, "decay_epochs": 8, "warmup_factor": 0.1},
        {"epoch_size": 10, "warmup_epochs": 3, "decay_epochs": 4, "min_lr": 1e-3},
        {"epoch_size": 4, "warmup_epochs": 0, "decay_epochs": 4, "min_lr": 0.0},
        {"epoch_size": 5, "warmup_epochs": 1, "decay_epochs": 4, "scheduler": "constant"},
        {"epoch_size": 9, "warmup_epochs": 2, "decay_epochs": 3, "scheduler": "step_decay", "decay_rate": 0.3},
        {
            "epoch_size": 9,
            "warmup_epochs": 1,
            "scheduler": "multi_step_decay",
            "multi_step_decay_milestones": (5, 2),
            "decay_rate": 0.1,
        },
        {"epoch_size": 6, "warmup_epochs": 1, "scheduler": "polynomial_decay", "decay_rate": 2.0},
    ],
)
def test_learning_rates_are_mindcvs(values: dict) -> None:
    scheduler = pytest.importorskip("mindcv.scheduler")
    config = Config(lr=0.3, **values)
    theirs = scheduler.create_scheduler(
        7,
        scheduler=config.scheduler,
        lr=config.lr,
        min_lr=config.min_lr,
        warmup_epochs=config.warmup_epochs,
        warmup_factor=config.warmup_factor,
        decay_epochs=config.decay_epochs,
        decay_rate=config.decay_rate,
        milestones=list(config.multi_step_decay_milestones),
        num_epochs=config.epoch_size,
    )
    np.testing.assert_allclose(learning_rates(config, 7), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 9)) * 3, rng.integers(0, 9, 6)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.full((6, 9), smoothing / 9)
    target[np.arange(6), labels] += 1 - smoothing
    want = -(target * log_p).sum(axis=1).mean()
    got = CrossEntropy(smoothing)(Tensor(logits.astype(np.float32)), Tensor(labels.astype(np.int32)))
    assert abs(float(got.asnumpy()) - want) < 1e-5 * want


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 9)) * 30, rng.integers(0, 9, 6)
    target = np.full((6, 9), smoothing / 9)
    target[np.arange(6), labels] += 1 - smoothing
    want = (np.logaddexp(0, logits) - target * logits).mean()
    got = BinaryCrossEntropy(smoothing)(Tensor(logits.astype(np.float32)), Tensor(labels.astype(np.int32)))
    assert abs(float(got.asnumpy()) - want) < 1e-5 * want


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_mixed_targets(smoothing: float) -> None:
    """Smoothing is spread over the mixed target, which is the mixture of the smoothed ones: timm's and MindCV's."""
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((6, 9)) * 3, rng.dirichlet([0.3] * 9, 6)
    smooth = target * (1 - smoothing) + smoothing / 9
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wants = -(smooth * log_p).sum(axis=1).mean(), (np.logaddexp(0, logits) - smooth * logits).mean()
    for loss, want in zip((CrossEntropy, BinaryCrossEntropy), wants, strict=True):
        got = loss(smoothing)(Tensor(logits.astype(np.float32)), Tensor(target.astype(np.float32)))
        assert abs(float(got.asnumpy()) - want) < 1e-5 * want, loss


class Pulled(nn.Cell):
    """Loss whose gradient is (weight - target), whatever comes in."""

    def __init__(self, start: list[np.ndarray]) -> None:
        super().__init__()
        self.weight = ms.Parameter(Tensor(start[0].copy()), name="weight")
        self.bias = ms.Parameter(Tensor(start[1].copy()), name="bias")

    def construct(self, targets: tuple) -> Tensor:
        return ((self.weight - targets[0]) ** 2).sum() / 2 + ((self.bias - targets[1]) ** 2).sum() / 2


class First(nn.Cell):
    def construct(self, loss: Tensor, labels: Tensor) -> Tensor:
        return loss


def expected_updates(opt: str, params: list, targets: list, rates: list, decays: tuple, clip: float | None) -> list:
    """The optimizers' formulas, in float64."""
    params = [p.astype(np.float64) for p in params]
    m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    for t, rate in enumerate(rates, 1):
        gradients = [p - q for p, q in zip(params, targets, strict=True)]
        if clip:
            norm = np.sqrt(sum((g**2).sum() for g in gradients))
            gradients = [g * min(1.0, clip / norm) for g in gradients]
        for i, g in enumerate(gradients):
            if opt in ("momentum", "nesterov"):
                g = g + decays[i] * params[i]
                m[i] = 0.9 * m[i] + g
                params[i] = params[i] - rate * (g + 0.9 * m[i] if opt == "nesterov" else m[i])
                continue
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2
            update = (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8) + decays[i] * params[i]
            if opt == "lamb":
                update *= np.linalg.norm(params[i]) / np.linalg.norm(update)
            params[i] = params[i] - rate * update
    return params


@pytest.mark.parametrize("clip", [None, 1.5])
@pytest.mark.parametrize("opt", ["momentum", "nesterov", "adamw", "lamb"])
@pytest.mark.parametrize("mode", [0, 1])
def test_optimizers(opt: str, clip: float | None, mode: int, graph_mode: None) -> None:
    ms.set_context(mode=mode)
    rng = np.random.default_rng(1)
    start = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,))]
    targets = [rng.standard_normal(p.shape).astype(np.float32) for p in start]
    rates = [0.1, 0.05, 0.2, 0.1]
    config = load_config(
        None, opt=opt, weight_decay=0.03, weight_decay_filter="norm_and_bias", loss_scale=64, clip_grad=clip is not None
    )
    net = Pulled(start)
    step = TrainStep(net, First(), create_optimizer(net, config, rates), config.loss_scale, clip)
    for _ in rates:
        step(tuple(map(Tensor, targets)), Tensor(0))
    want = expected_updates(opt, start, targets, rates, (0.03, 0.0), clip)
    for parameter, value in zip((net.weight, net.bias), want, strict=True):
        np.testing.assert_allclose(parameter.asnumpy(), value, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("how", ["disable", "norm_and_bias"])
def test_parameter_groups_are_mindcvs(how: str) -> None:
    factory = pytest.importorskip("mindcv.optim.optim_factory")
    net = create_model("skresnet18", num_classes=3)
    theirs = factory.init_group_params(net.trainable_params(), 1e-4, how, [])

    def names(groups: list) -> list:
        return [{k: [p.name for p in v] if isinstance(v, list) else v for k, v in group.items()} for group in groups]

    assert names(parameter_groups(net, 1e-4, how)) == names(theirs)


# ---- checkpoints ----


def test_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = create_model("sknet_tiny", num_classes=3), tmp_path / "a.ckpt"
    checkpoints.save_checkpoint(net, path, {"epoch": 1})
    before = path.read_bytes()
    net.classifier.bias.set_data(Tensor(np.ones(3, np.float32)))

    def half(net, name: str, **kwargs) -> None:
        Path(name).write_bytes(before[:1000])
        raise OSError("No space left on device")

    monkeypatch.setattr(ms, "save_checkpoint", half)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_checkpoint(net, path, {"epoch": 2})
    assert path.read_bytes() == before
    assert checkpoints.read_sidecar(path)["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "a.json"]


def test_disk_before_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is forced to disk before the rename, the folder after it."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def logged_replace(a: Path, b: Path) -> None:
        calls.append(("rename", str(a), str(b)))
        replace(a, b)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    path = tmp_path / "a.ckpt"
    checkpoints.save_checkpoint(create_model("sknet_tiny", num_classes=3), path, {})
    (what, partial), rename, folder = calls[:3]
    assert what == "fsync"
    assert partial != str(path)
    assert rename == ("rename", partial, str(path))
    assert folder == ("fsync", str(tmp_path))


def test_sidecar_of_another_checkpoint_is_not_believed(tmp_path: Path) -> None:
    net, path = create_model("sknet_tiny", num_classes=3), tmp_path / "a.ckpt"
    checkpoints.save_checkpoint(net, path, {"epoch": 1})
    assert checkpoints.read_sidecar(path)["epoch"] == 1
    net.classifier.bias.set_data(Tensor(np.ones(3, np.float32)))
    ms.save_checkpoint(net, str(path))
    assert checkpoints.read_sidecar(path) is None
    path.with_suffix(".json").write_text("{")
    assert checkpoints.read_sidecar(path) is None
    assert checkpoints.read_sidecar(tmp_path / "none.ckpt") is None


def test_copy_replaces(tmp_path: Path) -> None:
    net = create_model("sknet_tiny", num_classes=3)
    a, b, last = (tmp_path / f"{name}.ckpt" for name in ("a", "b", "last"))
    for i, path in enumerate((a, b)):
        checkpoints.save_checkpoint(net, path, {"epoch": i})
        checkpoints.copy_checkpoint(path, last)
        assert checkpoints.read_sidecar(last)["epoch"] == i
    checkpoints.copy_checkpoint(b, last)  # already the same file
    checkpoints.remove_checkpoint(b)
    assert checkpoints.read_sidecar(last)["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "a.json", "last.ckpt", "last.json"]


# ---- the run folder ----


def test_continued_tensorboard_log(tmp_path: Path) -> None:
    """Steps that a kill took back are shown once, as they were the second time."""
    for first, done in ((1, 0), (4, 3)):
        log = TensorBoardLog(tmp_path / "tensorboard", done)
        for step in range(first, first + 5):
            log.step(step, 10.0 * first + step, 0.1)
        log.close()
    shown = scalars(tmp_path)["step/loss"]
    assert shown == [(1, 11), (2, 12), (3, 13), (4, 44), (5, 45), (6, 46), (7, 47), (8, 48)]


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "environment.json"
    for step in (0, 5, 9):
        add_start(path, step)
    assert [start["step"] for start in json.loads(path.read_text())] == [0, 5, 9]
    add_start(path, 0)
    assert len(json.loads(path.read_text())) == 1
    assert git_state(tmp_path)["commit"] is None

    def git(*argv: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, "-C", str(tmp_path), *argv], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "a")
    assert git_state(tmp_path)["dirty"] is False
    path.write_text("other")
    state = git_state(tmp_path)
    assert state["dirty"] is True
    assert len(state["commit"]) == 40
    (tmp_path / "below").mkdir()
    assert git_state(tmp_path / "below") == {"commit": None, "reason": "not run from a clone"}
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == {"commit": None, "reason": "git is not installed"}


@pytest.mark.parametrize("count", [0, 1, 40])
def test_curves(tmp_path: Path, count: int) -> None:
    rows = [
        {"epoch": str(i + 1), "lr": "0", "train_loss": "1", "val_loss": "", "val_top1": "", "val_top5": ""}
        for i in range(count)
    ]
    plot_curves(rows, tmp_path / "curves.png", "title")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 360)
    assert len(list(tmp_path.iterdir())) == 1


# ---- runs ----


def test_run(settings, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(
        epoch_size=4, decay_epochs=4, keep_checkpoint_max=2, label_smoothing=0.1, loss_scale=128, ema=True
    )
    best = train(config)
    run = Path(config.ckpt_save_dir)
    assert sorted(p.name for p in run.iterdir()) == [
        "config.yaml",
        "curves.png",
        "environment.json",
        "log.csv",
        *(f"sknet_tiny-{what}" for what in ("3_9.ckpt", "3_9.json", "4_12.ckpt", "4_12.json")),
        *(f"sknet_tiny-{what}" for what in ("best.ckpt", "best.json", "last.ckpt", "last.json", "state.safetensors")),
        "tensorboard",
    ]
    assert load_config(run / "config.yaml") == config

    rows = rows_of(run)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9"), ("4", "12")]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    info = json.loads((run / "sknet_tiny-last.json").read_text())
    assert (info["epoch"], info["step"], info["classes"], info["model"]) == (4, 12, ["a", "b"], "sknet_tiny")
    assert info["config"]["lr"] == 0.05

    starts = json.loads((run / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0]
    assert starts[0]["mindspore"] == ms.__version__
    assert {"processor", "backend in use", "instruction set", "threads", "git", "command"} < starts[0].keys()
    with Image.open(run / "curves.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert_same_as_rows(scalars(run), rows)

    # Saved is the average, the last weights and statistics are in the state.
    state = State.read(run / "sknet_tiny-state.safetensors").arrays
    saved = {name: value.asnumpy() for name, value in ms.load_checkpoint(str(run / "sknet_tiny-last.ckpt")).items()}
    for name, value in saved.items():
        np.testing.assert_array_equal(value, state[f"ema.{name}"], err_msg=name)
    for name in ("classifier.weight", "bn1.moving_mean"):
        assert not np.array_equal(saved[name], state[name])

    # The best by validation accuracy, the earliest of equals; validate finds what training printed.
    accuracies = [float(row["val_top1"]) for row in rows]
    info = json.loads(best.with_suffix(".json").read_text())
    assert info["epoch"] == 1 + accuracies.index(max(accuracies))
    assert f"validation accuracy {100 * max(accuracies):.2f} %" in capsys.readouterr().out
    for path in (best, run / "sknet_tiny-last.ckpt"):
        saved = json.loads(path.with_suffix(".json").read_text())["scores"]
        scores = validate(settings(ckpt_path=str(path), batch_size=8), progress=False)
        assert (scores.images, scores.top1, scores.top5) == (10, saved["top1"], saved["top5"])
        assert abs(scores.loss - saved["loss"]) < 1e-5


def test_a_seed_makes_two_runs_equal(settings, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = settings(ckpt_save_dir=str(tmp_path / name), epoch_size=1, seed=seed)
        train(config)
        params = ms.load_checkpoint(str(tmp_path / name / "sknet_tiny-last.ckpt"))
        weights.append({k: v.asnumpy() for k, v in params.items()})
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name], err_msg=name)
    assert any(not np.array_equal(value, weights[2][name]) for name, value in weights[0].items())


def test_pynative_mode(settings, graph_mode: None) -> None:
    config = settings(mode=1, epoch_size=1)
    train(config)
    graph = settings(epoch_size=1, ckpt_save_dir=config.ckpt_save_dir + "2")
    train(graph)
    losses = [float(rows_of(Path(c.ckpt_save_dir))[0]["train_loss"]) for c in (config, graph)]
    assert abs(losses[0] - losses[1]) < 1e-4 * losses[0]


def test_other_optimizer_and_loss(settings) -> None:
    config = settings(
        opt="adamw", lr=0.002, loss="BCE", clip_grad=True, clip_value=1, epoch_size=3, decay_epochs=3, mixup=0.1
    )
    train(config)
    rows = rows_of(Path(config.ckpt_save_dir))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_start_from_a_checkpoint(settings, tmp_path: Path) -> None:
    first = train(settings(epoch_size=3, decay_epochs=3))
    again = settings(
        ckpt_path=str(first), ckpt_save_dir=str(tmp_path / "again"), epoch_size=1, lr=0.0, scheduler="constant"
    )
    train(again)
    a, b = (ms.load_checkpoint(str(p)) for p in (first, tmp_path / "again" / "sknet_tiny-last.ckpt"))
    np.testing.assert_array_equal(a["classifier.weight"].asnumpy(), b["classifier.weight"].asnumpy())


def test_fine_tuning(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Published weights, fetched from their address; a classifier of other classes; the features frozen."""
    published = create_model("sknet_tiny", num_classes=7)
    (tmp_path / "site").mkdir()
    ms.save_checkpoint(published, str(tmp_path / "site" / "published.ckpt"))
    monkeypatch.setenv("SKNET_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/published.ckpt"
        spec = dataclasses.replace(catalog.get_spec("sknet_tiny"), weights_url=url)
        monkeypatch.setitem(catalog._SPECS, "sknet_tiny", spec)
        train(settings(pretrained=True, freeze_features=True, epoch_size=1, weight_decay=0.1, ema=True))
        server.shutdown()
    out = capsys.readouterr().out
    assert "SHA-256" in out
    assert f"the classifier of {url} is for other classes: a new one, for 2, is trained" in out

    state = State.read(tmp_path / "run" / "sknet_tiny-state.safetensors").arrays
    for parameter in published.get_parameters():
        if not parameter.name.startswith("classifier"):
            for name in (parameter.name, f"ema.{parameter.name}"):
                np.testing.assert_array_equal(state[name], parameter.asnumpy(), err_msg=name)
    assert [name for name in state if name.startswith("moments.")] == [
        "moments.classifier.bias",
        "moments.classifier.weight",
    ]
    assert state["classifier.weight"].shape[0] == 2
    assert np.abs(state["classifier.bias"]).min() > 0


def test_without_validation(settings, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(val_while_train=False, epoch_size=1, keep_checkpoint_max=0, drop_remainder=False, batch_size=7)
    path = train(config)
    assert path.name == "sknet_tiny-last.ckpt"
    assert {p.name for p in path.parent.glob("*.ckpt")} == {"sknet_tiny-last.ckpt"}
    assert rows_of(path.parent)[0]["val_top1"] == ""
    assert rows_of(path.parent)[0]["step"] == "4"
    assert f"checkpoint {path}" in capsys.readouterr().out


def test_loss_that_is_not_finite(settings) -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+ .*no good checkpoint had been saved"):
        train(settings(lr=1e30))


def test_loss_that_is_not_finite_later(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "learning_rates", lambda config, steps: [1e-3] * steps + [1e30] * 99)
    with pytest.raises(TrainingError, match=r"at step 5 \(epoch 2.*last good checkpoint is .*-last.ckpt") as caught:
        train(settings())
    path = Path(str(caught.value).split("checkpoint is ")[1].split(".ckpt")[0] + ".ckpt")
    assert np.isfinite(ms.load_checkpoint(str(path))["classifier.weight"].asnumpy()).all()


@pytest.mark.parametrize("validated", [True, False])
def test_checkpoints_of_spoiled_weights_are_not_good(
    settings, monkeypatch: pytest.MonkeyPatch, graph_mode: None, validated: bool
) -> None:
    """The last step of the second epoch spoils the weights: its own loss is still finite, and the epoch is saved."""
    monkeypatch.setattr(
        trainer_module, "learning_rates", lambda config, steps: [1e-3] * (2 * steps - 1) + [1e30] + [1e-3] * 99
    )
    values = {"epoch_size": 4, "val_while_train": validated, "mode": 1}
    with pytest.raises(TrainingError, match=r"\(epoch 3, .*the last good checkpoint is .*sknet_tiny-1_\d+.ckpt"):
        train(settings(**values))
    with pytest.raises(TrainingError, match=r"\(epoch 2, .*no good checkpoint had been saved"):
        monkeypatch.setattr(trainer_module, "learning_rates", lambda config, steps: [1e-3] * (steps - 1) + [1e30] * 99)
        train(settings(**values, resume=False))


def test_interrupt_saves(settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    update = trainer_module.EpochProgress.update

    def interrupted(self, step: int, *args) -> None:
        update(self, step, *args)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer_module.EpochProgress, "update", interrupted)
    config = settings()
    with pytest.raises(KeyboardInterrupt):
        train(config)
    path = Path(config.ckpt_save_dir) / "sknet_tiny-last.ckpt"
    assert checkpoints.read_sidecar(path)["step"] == 2
    assert f"interrupted in epoch 1 at step 2; saved {path}" in capsys.readouterr().out
    create_model("sknet_tiny", num_classes=2, checkpoint_path=path)


def test_refused_before_the_first_step(settings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="num_classes: 3 given"):
        train(settings(num_classes=3))
    with pytest.raises(DataError, match="has no folder 'test'"):
        train(settings(val_split="test"))
    with pytest.raises(ValueError, match="unknown model 'sknet_tinny': did you mean sknet_tiny"):
        train(settings(model="sknet_tinny"))
    with pytest.raises(ConfigError, match="pretrained: no weights are published for sknet_tiny, only for skresnet18, "):
        train(settings(pretrained=True))
    shutil.copytree(settings().data_dir, tmp_path / "holed")
    (tmp_path / "holed" / "val" / "c").mkdir()
    with pytest.raises(DataError, match="data_dir: no image in .*/val/c"):
        train(settings(data_dir=str(tmp_path / "holed")))
    with pytest.raises(ConfigError, match="amp_level: O2 given, but this version has not: mixed precision on dev"):
        train(settings(amp_level="O2"))
    with pytest.raises(ConfigError, match="ckpt_path: expected the checkpoint to validate"):
        validate(settings())
    with pytest.raises(ConfigError, match="ckpt_path: no file none.ckpt"):
        validate(settings(ckpt_path="none.ckpt"))
    assert not (tmp_path / "run").exists()


def test_validate_knows_the_classes_of_the_checkpoint(settings, tmp_path: Path) -> None:
    """A validation folder without the first class, and no training split beside it."""
    path = train(settings(epoch_size=1))
    root = tmp_path / "alone"
    shutil.copytree(Path(settings().data_dir) / "val" / "b", root / "val" / "b")
    both = validate(settings(ckpt_path=str(path)), progress=False)
    alone = validate(settings(ckpt_path=str(path), data_dir=str(root)), progress=False)
    assert alone.images == 5
    assert both.images == 10
