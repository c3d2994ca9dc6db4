# SPDX-License-Identifier: Apache-2.0
"""The state of a run, in one file: all that the next step depends on.

Parameters, running statistics, optimizer, gradients gathered so far and averaged weights as arrays; where the run
stands, what it has logged and its recipe as JSON in the same file. One file, because a kill can come between two. Order
and augmentation of the images need no state: they depend on seed, epoch and index.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sknet.config import Config
from sknet.files import partial_name, publish

# What may differ between a run and its continuation: nothing that these say decides a parameter.
FREE = (
    "ckpt_path",
    "ckpt_save_dir",
    "data_dir",
    "dataset_sink_mode",
    "epoch_size",
    "keep_checkpoint_max",
    "log_interval",
    "num_parallel_workers",
    "pretrained",
    "resume",
    "save_interval_steps",
)


class StateError(ValueError):
    """A saved state that cannot be continued, with the reason."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: the epoch in work, from 1.
        step: steps done in all.
        step_in_epoch: steps done of this epoch.
        finished: whether the epoch's validation and checkpoint are done, too.
        loss_sum: of the steps done of this epoch.
        best: scores of the best epoch so far.
        kept: names of the epochs' checkpoints, oldest first.
        rows: of the log.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    finished: bool = True
    loss_sum: float = 0.0
    best: dict[str, Any] | None = None
    kept: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), crc))
    return crc


def save_state(path: Path, parameters: Sequence[Parameter], progress: Progress, config: Config, steps: int) -> None:
    """Write the state under a temporary name and to disk, then rename: a kill leaves the old file or the new."""
    arrays = {parameter.name: parameter.asnumpy() for parameter in parameters}
    if len(arrays) != len(parameters):
        raise ValueError("parameters: expected names that differ")
    about = {"progress": dataclasses.asdict(progress), "config": dataclasses.asdict(config), "steps": steps}
    metadata = {"sknet": json.dumps(about), "crc32": str(_checksum(arrays))}
    partial = partial_name(path)
    try:
        save_file(arrays, str(partial), metadata)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass
class State:
    """A state file that has been read and found whole."""

    path: Path
    arrays: dict[str, np.ndarray]
    progress: Progress
    config: dict[str, Any]
    steps: int

    @classmethod
    def read(cls, path: Path) -> State:
        """StateError if the file is damaged."""
        try:
            with safe_open(str(path), "numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            about = json.loads(metadata["sknet"])
            if int(metadata["crc32"]) != _checksum(arrays):
                raise ValueError("its checksum does not fit")
            return cls(path, arrays, Progress(**about["progress"]), about["config"], about["steps"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"{path}: not a readable training state ({error}); --resume False begins anew") from error

    def check(self, config: Config, steps: int) -> None:
        """StateError if `config` describes another run, naming the keys that differ."""
        mine = json.loads(json.dumps(dataclasses.asdict(config)))
        fixed = {"epoch_size"} if config.scheduler == "polynomial_decay" else set()  # its rates depend on the length
        # A key that came after the state was saved had its default's effect.
        theirs = json.loads(json.dumps(dataclasses.asdict(Config()))) | self.config
        differing = [key for key in mine if (key not in FREE or key in fixed) and theirs[key] != mine[key]]
        if differing:
            what = "; ".join(f"{key}: {theirs[key]} there, {mine[key]} here" for key in differing)
            raise StateError(
                f"{self.path.parent} holds an unfinished run of another recipe ({what}); "
                f"give that recipe to continue it, another --ckpt_save_dir, or --resume False to replace it"
            )
        if self.steps != steps:
            raise StateError(
                f"{self.path.parent} holds an unfinished run of {self.steps} steps an epoch, the data set here makes "
                f"{steps}; give the same images, another --ckpt_save_dir, or --resume False to replace it"
            )

    def restore(self, parameters: Sequence[Parameter]) -> None:
        """Set every parameter. StateError if one is missing or has another shape."""
        for parameter in parameters:
            array = self.arrays.get(parameter.name)
            if array is None or tuple(array.shape) != tuple(parameter.shape):
                raise StateError(f"{self.path}: holds no {parameter.name} of shape {tuple(parameter.shape)}")
        for parameter in parameters:
            parameter.set_data(Tensor(self.arrays[parameter.name], parameter.dtype))
