# SPDX-License-Identifier: Apache-2.0
"""Scores of a network on a validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from sknet.config import Config, ConfigError
from sknet.data.class_names import imagenet_classes
from sknet.data.folder import ImageFolder, check_num_classes
from sknet.data.pipeline import eval_batches, iterate
from sknet.engine.checkpoint import read_sidecar
from sknet.engine.device import use_device
from sknet.engine.step import EvalStep
from sknet.interrupt import Interrupt
from sknet.weights import local_file


@dataclass(frozen=True)
class Scores:
    """Over all images of a split. top1 and top5 are shares of 1; top5 counts the best min(5, classes)."""

    images: int
    top1: float
    top5: float
    loss: float

    def __str__(self) -> str:
        return f"top-1 {100 * self.top1:.2f} %, top-5 {100 * self.top5:.2f} %, loss {self.loss:.4f}"


def evaluate(
    step: EvalStep,
    batches: Any,
    batch_size: int,
    progress: bool = False,
    after_batch: Callable[[], None] | None = None,
) -> Scores:
    """Run every batch through `step`, and score it in float64.

    The last batch is filled up with zero images to `batch_size`, so that one compiled graph serves all; they are
    not counted. The loss is the plain cross entropy, without label smoothing. `after_batch` is called between batches.
    """
    step.set_train(False)
    images = correct = correct5 = 0
    loss = 0.0
    bar = tqdm(
        total=batches.get_dataset_size(), desc="validate", unit="batch", leave=False, disable=None if progress else True
    )
    with bar:
        for x, labels in iterate(batches):
            count = len(x)
            if count < batch_size:
                x = np.concatenate([x, np.zeros((batch_size - count, *x.shape[1:]), x.dtype)])
            logits = step(Tensor(x)).asnumpy()[:count].astype(np.float64)
            true = logits[np.arange(count), labels]
            top = logits.max(axis=1)
            loss += float(np.sum(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - true))
            # Not-a-number ranks nothing right. Of equal logits the lower class comes first.
            finite = np.isfinite(logits).all(axis=1)
            tied_before = (logits == true[:, None]) & (np.arange(logits.shape[1]) < labels[:, None])
            rank = (logits > true[:, None]).sum(axis=1) + tied_before.sum(axis=1)
            correct += int((finite & (rank < 1)).sum())
            correct5 += int((finite & (rank < 5)).sum())
            images += count
            bar.update()
            if after_batch:
                after_batch()
    return Scores(images, correct / images, correct5 / images, loss / images)


def class_names(config: Config, checkpoint: Path) -> tuple[str, ...] | None:
    """Names of the classes that the checkpoint was trained on: its sidecar's, else those of the training split.

    Without both: ImageNet's 1000, of which the validation split may hold a part, if all of its folders are among them
    and num_classes says nothing else. None: the validation split's own.
    """
    info = read_sidecar(checkpoint)
    if info and info.get("classes"):
        return tuple(info["classes"])
    if (Path(config.data_dir) / config.train_split).is_dir():
        return ImageFolder.open(config.data_dir, config.train_split).classes
    imagenet = tuple(imagenet_classes())
    if config.num_classes in (None, len(imagenet)):
        present = ImageFolder.open(config.data_dir, config.val_split).present
        return imagenet if set(present) <= set(imagenet) else None
    return None


def validate(config: Config, progress: bool = True) -> Scores:
    """Score the checkpoint `config.ckpt_path` on the validation split.

    Raises:
        ConfigError, DataError, FileNotFoundError, ValueError: no checkpoint named or found, a data set that does not
            fit, weights that do not fit the model.
    """
    from sknet.models import create_model

    if not config.ckpt_path:
        raise ConfigError("ckpt_path: expected the checkpoint to validate, got nothing; give --ckpt_path FILE")
    checkpoint = local_file(config.ckpt_path)
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt_path: no file {config.ckpt_path}")
    use_device(config)
    folder = ImageFolder.open(config.data_dir, config.val_split, class_names(config, checkpoint))
    classes = check_num_classes(config.num_classes, folder)
    ms.set_context(mode=config.mode)
    net = create_model(config.model, num_classes=classes, checkpoint_path=checkpoint)
    with Interrupt() as interrupt:
        interrupt.check()
        return evaluate(EvalStep(net), eval_batches(config, folder), config.batch_size, progress, interrupt.check)
