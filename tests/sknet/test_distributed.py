# SPDX-License-Identifier: Apache-2.0
"""Two processes under msrun."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sknet.config import Config, ConfigError, save_config
from sknet.data.folder import DataError, ImageFolder
from sknet.data.pipeline import train_batches
from sknet.engine import train
from sknet.engine.state import State

from tests.conftest import ROOT
from tests.sknet.test_resume import assert_same_run, log_of, state_of

MSRUN = shutil.which("msrun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_msrun = pytest.mark.skipif(MSRUN is None, reason="no msrun, which MindSpore brings, on the path")


@pytest.fixture
def settings(recipe_of_seconds):
    return recipe_of_seconds(
        {"train": 17, "val": 4}, batch_size=4, epoch_size=2, warmup_epochs=0, num_parallel_workers=1
    )


def start(config: Config, logs: Path) -> subprocess.Popen:
    """Two processes of train.py."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = logs.with_suffix(".yaml")
    save_config(config, recipe)
    argv = [MSRUN, "--worker_num=2", "--local_worker_num=2", f"--master_port={port}", f"--log_dir={logs}"]
    argv += ["--join=True", str(ROOT / "python" / "train.py"), "-c", str(recipe)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "python")])}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return subprocess.Popen(
        argv, env=environment, cwd=logs.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_shares_of_a_step(settings) -> None:
    """What the processes get together is the batch of one process with a larger batch."""
    config = settings("run")
    folder = ImageFolder.open(config.data_dir, "train")
    large = list(train_batches(dataclasses.replace(config, batch_size=12), folder, 3))
    shares = [train_batches(config, folder, 3, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [len(large)] * 3 == [2] * 3
    for (images, labels), *parts in zip(large, *shares, strict=True):
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)
    ((images, _),) = shares[1].starting_at(1)
    np.testing.assert_array_equal(images, large[1][0][4:8])
    with pytest.raises(DataError, match="batch_size: 12 in each of 3 processes, but"):
        train_batches(dataclasses.replace(config, batch_size=12), folder, 0, 0, 3)


def test_refused(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MS_ROLE", raising=False)
    with pytest.raises(ConfigError, match="not started by msrun. Give --distribute False, or start the processes: msr"):
        train(settings("run", distribute=True))
    with pytest.raises(ConfigError, match="drop_remainder: expected True with distribute True"):
        train(settings("run", distribute=True, drop_remainder=False))


@needs_msrun
def test_two_processes_are_one_with_the_doubled_batch(settings, tmp_path: Path) -> None:
    """Where norms use their running statistics; in training each process has those of its own images."""
    same = {
        "freeze_features": True,
        "ema": True,
        "gradient_accumulation_steps": 2,
        "clip_grad": True,
        "clip_value": 0.5,
    }
    two, one = settings("two", distribute=True, **same), settings("one", batch_size=8, **same)
    with start(two, tmp_path / "logs") as process:
        text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    train(one)
    a, b = state_of(two), state_of(one)
    assert a.progress.step == b.progress.step == 8
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        np.testing.assert_allclose(array, b.arrays[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(a.arrays["moments.classifier.bias"]).max() > 0.01
    for mine, theirs in zip(log_of(two), log_of(one), strict=True):
        np.testing.assert_allclose(np.array(mine, float), np.array(theirs, float), rtol=1e-4)
    # Only the first process wrote, and spoke.
    kinds = [sorted(p.name for p in Path(config.ckpt_save_dir).iterdir()) for config in (two, one)]
    assert kinds[0] == kinds[1]
    assert len(list((Path(two.ckpt_save_dir) / "tensorboard").iterdir())) == 1
    logs = [(tmp_path / "logs" / f"worker_{rank}.log").read_text() for rank in range(2)]
    assert "epochs of 4 steps of 4 images in each of 2 processes" in logs[0]
    assert "validation accuracy" in logs[0]
    assert "epoch" not in logs[1]


def worker(logs: Path, rank: int) -> int:
    """Process id of a worker of the run that logs there."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment, command = path.read_bytes(), (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if f"\0RANK_ID={rank}\0".encode() in b"\0" + environment and str(logs.with_suffix(".yaml")).encode() in command:
            return int(path.parent.name)
    raise AssertionError("no such worker")


@pytest.mark.long
@needs_msrun
def test_death_of_a_worker(settings, tmp_path: Path) -> None:
    """Ends the run, which continues afterwards as if nothing had been."""
    more = {"distribute": True, "epoch_size": 8, "save_interval_steps": 1, "ema": True}
    whole, broken = settings("whole", **more), settings("broken", **more)
    with start(whole, tmp_path / "whole_logs") as process:
        text = process.communicate(timeout=500)[0]
    assert process.returncode == 0, text

    path = Path(broken.ckpt_save_dir) / "sknet_tiny-state.safetensors"
    for rank in (1, 0):
        before = State.read(path).progress.step if path.exists() else 0
        logs = tmp_path / f"broken_logs{rank}"
        with start(broken, logs) as process:
            while not path.exists() or State.read(path).progress.step < before + 5:
                assert process.poll() is None
                time.sleep(0.02)
            os.kill(worker(logs, rank), signal.SIGKILL)
            text = process.communicate(timeout=120)[0]
        assert process.returncode != 0
        assert "Distributed job exited with exception" in text
    with start(broken, tmp_path / "last_logs") as process:
        text = process.communicate(timeout=500)[0]
    assert process.returncode == 0, text
    assert_same_run(whole, broken)
