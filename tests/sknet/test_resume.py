# SPDX-License-Identifier: Apache-2.0
"""A run that was killed and resumed is the run that was not, bit for bit."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sknet.config import Config, save_config
from sknet.engine import train
from sknet.engine import trainer as trainer_module
from sknet.engine.state import Progress, State, StateError, save_state

from tests.conftest import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "python")])}
# Timings differ between equal runs.
SAME_COLUMNS = ("epoch", "step", "lr", "train_loss", "val_loss", "val_top1", "val_top5")


@pytest.fixture
def settings(recipe_of_seconds):
    return recipe_of_seconds(
        {"train": 12, "val": 4},
        batch_size=8,
        epoch_size=3,
        warmup_epochs=1,
        re_prob=0.3,
        ema=True,
        ema_decay=0.9,
        gradient_accumulation_steps=2,
        num_parallel_workers=2,
        save_interval_steps=1,
    )


def state_of(config: Config) -> State:
    return State.read(Path(config.ckpt_save_dir) / "sknet_tiny-state.safetensors")


def log_of(config: Config) -> list[list[str]]:
    with (Path(config.ckpt_save_dir) / "log.csv").open() as file:
        return [[row[column] for column in SAME_COLUMNS] for row in csv.DictReader(file)]


def assert_same_run(one: Config, other: Config) -> None:
    a, b = state_of(one), state_of(other)
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        assert array.tobytes() == b.arrays[name].tobytes(), name
    for field in ("epoch", "step", "step_in_epoch", "finished", "loss_sum", "best", "kept"):
        assert getattr(a.progress, field) == getattr(b.progress, field), field
    assert log_of(one) == log_of(other)
    names = [sorted(p.name for p in Path(config.ckpt_save_dir).iterdir()) for config in (one, other)]
    assert names[0] == names[1]
    for name in (name for name in names[0] if name.endswith(".ckpt")):
        files = [(Path(config.ckpt_save_dir) / name).read_bytes() for config in (one, other)]
        assert files[0] == files[1], name


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ends the run like a kill: an exception that nothing saves on, right after a step."""
    update = trainer_module.EpochProgress.update
    seen = []

    def stopping(self, *args) -> None:
        update(self, *args)
        seen.append(args)
        if len(seen) == step:
            raise RuntimeError("stopped")

    monkeypatch.setattr(trainer_module.EpochProgress, "update", stopping)


# Every draw that there is, and a damaged image.
AUGMENTED = {
    "auto_augment": "randaug-m9-mstd0.5",
    "crop_padding": 2,
    "mixup": 0.2,
    "cutmix": 1.0,
    "cutmix_prob": 0.9,
    "loss": "BCE",
    "corrupt": "skip",
}


@pytest.mark.parametrize(
    ("step", "interval", "values"),
    [(2, 1, {}), (5, 2, {}), (8, 0, {}), (5, 1, AUGMENTED)],
    ids=["2-1", "5-2", "8-0", "augmented"],
)
def test_resumed_run_is_the_same(
    settings, monkeypatch: pytest.MonkeyPatch, step: int, interval: int, values: dict
) -> None:
    whole, broken = settings("whole", **values), settings("broken", save_interval_steps=interval, **values)
    if values:
        for split in ("train", "val"):
            (Path(whole.data_dir) / split / "b" / "001.png").write_bytes(b"no image")
    train(whole)
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(RuntimeError, match="stopped"):
            train(broken)
    assert state_of(broken).progress.step < step
    train(broken)
    assert_same_run(whole, broken)


def test_interrupted_run_goes_on(settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    whole, broken = settings("whole"), settings("broken", save_interval_steps=0)
    train(whole)
    update = trainer_module.EpochProgress.update

    def interrupted(self, step: int, *args) -> None:
        update(self, step, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.EpochProgress, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    train(broken)
    assert "-state.safetensors after step 1" in capsys.readouterr().out
    assert_same_run(whole, broken)


def test_more_epochs_continue_a_finished_run(settings) -> None:
    whole, longer = settings("whole", epoch_size=4), settings("longer")
    train(whole)
    train(longer)
    train(settings("longer", epoch_size=4))
    assert_same_run(whole, longer)


def test_another_recipe_is_refused(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(RuntimeError, match="stopped"):
            train(settings("run"))
    with pytest.raises(StateError, match=r"unfinished run of another recipe \(lr: 0.05 there, 0.1 here\).*--resume"):
        train(settings("run", lr=0.1))
    assert state_of(settings("run")).progress.step == 1
    train(settings("run", lr=0.1, resume=False, epoch_size=1, decay_epochs=1))
    assert state_of(settings("run")).progress.step == 3
    assert len(log_of(settings("run"))) == 1


def test_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    parameter = trainer_module.ms.Parameter(np.arange(6, dtype=np.float32), name="w")
    save_state(path, [parameter], Progress(step=3), Config(), 4)
    assert State.read(path).progress.step == 3
    whole = path.read_bytes()
    for damage in (whole[:50], whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(damage)
        with pytest.raises(StateError, match=r"a\.safetensors: not a readable training state .*--resume False"):
            State.read(path)


def test_failed_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sknet.engine import state

    path = tmp_path / "a.safetensors"
    parameter = trainer_module.ms.Parameter(np.arange(6, dtype=np.float32), name="w")
    save_state(path, [parameter], Progress(step=3), Config(), 4)

    def half(arrays, name: str, metadata) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(state, "save_file", half)
    with pytest.raises(OSError, match="No space left"):
        save_state(path, [parameter], Progress(step=4), Config(), 4)
    assert State.read(path).progress.step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def kill_and_resume(settings, kills: int, seed: int) -> None:
    """Random SIGKILLs between the first saved state and the end; after each the state on disk is whole."""
    rng = random.Random(seed)
    whole, broken = settings("whole", epoch_size=6), settings("broken", epoch_size=6)
    train(whole)
    total = state_of(whole).progress.step
    code = "import sys, sknet.engine, sknet.config as c; sknet.engine.train(c.load_config(sys.argv[1]))"
    recipe = Path(whole.ckpt_save_dir).parent / "recipe.yaml"
    save_config(broken, recipe)
    path = Path(broken.ckpt_save_dir) / "sknet_tiny-state.safetensors"
    # Each kill comes a little after a new state appears: the writing of states and checkpoints follows.
    struck, before = 0, None
    while struck < kills:
        if before is not None and before.progress.step >= total - 2:
            shutil.rmtree(broken.ckpt_save_dir)  # once more from the start
            before = None
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(recipe)],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with process:
            changed = path.stat().st_ino if path.exists() else None
            while process.poll() is None:
                if path.exists() and path.stat().st_ino != changed:
                    time.sleep(rng.uniform(0, 0.08))
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.001)
            _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        struck += process.returncode == -signal.SIGKILL
        after = State.read(path)
        # An epoch's last step has two states: one before validation, one after.
        reached = (after.progress.step, after.progress.finished)
        assert before is None or reached > (before.progress.step, before.progress.finished)
        before = after
    if not before.progress.finished or before.progress.epoch < broken.epoch_size:
        train(broken)
    assert_same_run(whole, broken)


def test_killed_runs(settings) -> None:
    kill_and_resume(settings, kills=3, seed=1)


@pytest.mark.long
def test_many_killed_runs(settings) -> None:
    kill_and_resume(settings, kills=20, seed=2)
