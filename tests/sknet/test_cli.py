# SPDX-License-Identifier: Apache-2.0
"""The commands as a newcomer runs them, in processes of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sknet import create_model
from sknet.cli import main

PYTHON = Path(__file__).resolve().parents[2] / "python"
# Finds sknet_ops for a run of the tests without an installation.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PYTHON.parent), os.environ.get("PYTHONPATH", "")])}
TINY = """\
model: sknet_tiny
image_resize: 16
batch_size: 8
epoch_size: 2
warmup_epochs: 0
decay_epochs: 2
lr: 0.05
num_parallel_workers: 2
"""


def run(*argv: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )


def start(*argv: str, cwd: Path) -> subprocess.Popen:
    """A process with both streams in one, and with Ctrl-C as at a terminal even where this process ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, *argv],
            cwd=cwd,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_train_and_validate(image_folder, tmp_path: Path) -> None:
    root = image_folder({"train": 12, "val": 6})
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY + "amp_level: O2\n")  # as MindCV's recipes have it
    data = ["-c", str(recipe), "--data_dir", str(root)]
    trained = run("train.py", *data, "--ckpt_save_dir", str(tmp_path / "run"), "--distribute", "False", cwd=PYTHON)
    assert trained.returncode == 0, trained.stderr
    accuracy, path = re.search(r"^validation accuracy (\S+ %)\ncheckpoint (\S+)$", trained.stdout, re.M).groups()
    assert "Traceback" not in trained.stderr
    note = f"amp_level: O2 in {recipe}, but device_target CPU has no mixed precision: computing in float32 (O0)"
    assert note in trained.stdout.splitlines()
    resolved = (tmp_path / "run" / "config.yaml").read_text().splitlines()
    assert resolved[0] == f"# {note}"
    assert "amp_level: O0" in resolved

    validated = run("validate.py", *data, "--ckpt_path", path, cwd=PYTHON)
    assert validated.returncode == 0, validated.stderr
    assert f"validation accuracy {accuracy}" in validated.stdout
    assert note in validated.stdout.splitlines()

    cut = Path(path).read_bytes()[:5000]
    Path(path).write_bytes(cut)
    damaged = run("-m", "sknet", "validate", *data, "--ckpt_path", path, cwd=PYTHON)
    assert damaged.returncode == 1
    assert "sknet validate: error:" in damaged.stderr
    assert "not a readable MindSpore checkpoint" in damaged.stderr
    assert "Traceback" not in damaged.stderr


def takes_ctrl_c(process: int) -> list[str]:
    """Threads of a process that do not hold SIGINT back: the system gives it to one of these."""
    found = []
    for status in Path(f"/proc/{process}/task").glob("*/status"):
        with contextlib.suppress(OSError):  # the thread has ended
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if not int(lines["SigBlk"], 16) >> (signal.SIGINT - 1) & 1:
                found.append(lines["Name"].strip())
    return found


def test_ctrl_c_saves(image_folder, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY + "log_interval: 1\n")
    argv = ["-m", "sknet", "train", "-c", str(recipe), "--data_dir", str(image_folder({"train": 12, "val": 6}))]
    argv += ["--ckpt_save_dir", str(tmp_path / "run"), "--epoch_size", "500"]
    with start(*argv, cwd=PYTHON) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/500"):
                loose = takes_ctrl_c(process.pid)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130, rest
    assert not loose
    saved = re.search(r"interrupted in epoch \d+ at step \d+; saved (\S+)", rest).group(1)
    assert "Traceback" not in rest
    create_model("sknet_tiny", num_classes=2, checkpoint_path=saved)


def test_ctrl_c_while_starting(image_folder, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    argv = ["-m", "sknet", "train", "-c", str(recipe), "--data_dir", str(image_folder({"train": 12, "val": 6}))]
    with start(*argv, "--ckpt_save_dir", str(tmp_path / "run"), cwd=PYTHON) as process:
        while process.poll() is None and takes_ctrl_c(process.pid):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130, rest
    assert rest.endswith("sknet: interrupted\n")
    assert "Traceback" not in rest
    assert not list((tmp_path / "run").glob("*.ckpt"))


def test_info_needs_no_mindspore() -> None:
    code = "import sys; from sknet.cli import main; main(['info', 'sknet50']); assert 'mindspore' not in sys.modules"
    done = run("-c", code, cwd=PYTHON)
    assert done.returncode == 0, done.stderr
    assert "27,479,784" in done.stdout
    assert "4.468 G" in done.stdout


def test_info_lists_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    from sknet import list_models

    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list_models()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "validate   score a checkpoint" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["train", "--help"])
    assert done.value.code == 0
    assert "--label_smoothing FLOAT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        ([], 2, ""),
        (["trian"], 2, "unknown command 'trian'; expected one of train, validate, info"),
        (["train", "--data_dir", "/nowhere"], 1, "data_dir: no folder /nowhere"),
        (["train", "--batchsize", "3"], 1, "unknown option '--batchsize'; did you mean '--batch_size'?"),
        (["train", "--model", "skresnet19", "--data_dir", "DATA"], 1, "unknown model 'skresnet19': did you mean"),
        (["train", "--distribute"], 1, "distribute: True given, but this process was not started by msrun"),
        (
            [
                "train",
                "--model",
                "sknet_tiny",
                "--data_dir",
                "DATA",
                "--image_resize",
                "16",
                "--ckpt_save_dir",
                __file__,
            ],
            1,
            f"File exists: '{__file__}'",
        ),
        (["train", "--amp_level", "O2", "--data_dir", "DATA"], 1, "amp_level: O2 given, but this version has not: mix"),
        (["validate", "--amp_level", "O2"], 1, "mixed precision on device_target CPU; give --amp_level O0"),
        (["validate", "--data_dir", "DATA"], 1, "ckpt_path: expected the checkpoint to validate"),
    ],
)
def test_user_errors(
    argv: list[str], status: int, words: str, image_folder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(image_folder({"train": 70, "val": 1}))
    assert main([root if word == "DATA" else word for word in argv]) == status
    assert words in capsys.readouterr().err


def test_bad_info(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in ((["zebra"], "unknown model 'zebra'"), (["sknet50", "--num_classes", "0"], "at least 1, got 0")):
        with pytest.raises(SystemExit) as done:
            main(["info", *argv])
        assert done.value.code == 2
        assert words in capsys.readouterr().err
