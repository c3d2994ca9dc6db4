# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from sknet.config import Config, save_config
from sknet.data.folder import ImageFolder, check_num_classes
from sknet.data.pipeline import eval_batches, iterate, train_batches
from sknet.engine.checkpoint import copy_checkpoint, remove_checkpoint, save_checkpoint
from sknet.engine.evaluate import Scores, evaluate
from sknet.engine.log import CsvLog, EpochProgress, say
from sknet.engine.optimizer import create_optimizer
from sknet.engine.schedule import learning_rates
from sknet.engine.step import CrossEntropy, EvalStep, TrainStep
from sknet.interrupt import Interrupt


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and where the last good checkpoint is."""


class Trainer:
    """One run: everything is checked and built on construction, `run` trains."""

    def __init__(self, config: Config) -> None:
        from sknet.models import create_model

        self.config = config
        self.train_folder = ImageFolder.open(config.data_dir, config.train_split)
        num_classes = check_num_classes(config.num_classes, self.train_folder)
        self.val_folder = None
        if config.val_while_train:
            self.val_folder = ImageFolder.open(config.data_dir, config.val_split, self.train_folder.classes)
        self.steps = train_batches(config, self.train_folder, 0).get_dataset_size()

        ms.set_context(mode=config.mode)
        ms.set_seed(config.seed)
        np.random.seed(config.seed)
        self.net = create_model(config.model, num_classes=num_classes, checkpoint_path=config.ckpt_path or None)
        self.rates = learning_rates(config, self.steps)
        optimizer = create_optimizer(self.net, config, self.rates)
        self.train_step = TrainStep(self.net, CrossEntropy(config.label_smoothing), optimizer, config.loss_scale)
        self.eval_step = EvalStep(self.net)

        self.run_dir = Path(config.ckpt_save_dir)
        self.step = 0
        self.best: Scores | None = None
        self.kept: list[Path] = []

    @property
    def last_path(self) -> Path:
        return self.run_dir / f"{self.config.model}-last.ckpt"

    @property
    def best_path(self) -> Path:
        return self.run_dir / f"{self.config.model}-best.ckpt"

    def run(self) -> Path:
        """Train to the end.

        Returns:
            The best checkpoint by validation accuracy, or the last one of a run without validation.

        Raises:
            TrainingError: the loss is not finite.
            KeyboardInterrupt: after the state has been saved.
        """
        config = self.config
        self.run_dir.mkdir(parents=True, exist_ok=True)
        save_config(config, self.run_dir / "config.yaml")
        log = CsvLog(self.run_dir / "log.csv")
        params = sum(p.size for p in self.net.trainable_params())
        say(
            f"{config.model}: {params:,} parameters, {len(self.train_folder.classes)} classes, "
            f"{config.epoch_size} epochs of {self.steps} steps of {config.batch_size} images"
        )
        epoch = 0
        try:
            with Interrupt() as interrupt:
                for epoch in range(1, config.epoch_size + 1):
                    self._epoch(epoch, log, interrupt)
        except KeyboardInterrupt:
            if self.step:
                save_checkpoint(self.net, self.last_path, self._info(epoch, None))
                say(f"interrupted in epoch {epoch} at step {self.step}; saved {self.last_path}")
            raise
        if self.best is None:
            say(f"checkpoint {self.last_path}")
            return self.last_path
        say(f"validation accuracy {100 * self.best.top1:.2f} %")
        say(f"checkpoint {self.best_path}")
        return self.best_path

    def _epoch(self, epoch: int, log: CsvLog, interrupt: Interrupt) -> None:
        config, start, loss_sum = self.config, time.perf_counter(), 0.0
        self.train_step.set_train(True)
        batches = train_batches(config, self.train_folder, epoch)
        with EpochProgress(epoch, config.epoch_size, self.steps, config.log_interval) as progress:
            for i, (images, labels) in enumerate(iterate(batches), 1):
                loss = float(self.train_step(images, labels).asnumpy())
                if not math.isfinite(loss):
                    raise TrainingError(self._not_finite(epoch, loss))
                rate = self.rates[self.step]
                self.step += 1
                loss_sum += loss
                progress.update(i, len(labels), loss, rate)
                interrupt.check()
            speed = progress.images_per_s

        scores = None
        if self.val_folder and (epoch % config.val_interval == 0 or epoch == config.epoch_size):
            batches = eval_batches(config, self.val_folder)
            scores = evaluate(self.eval_step, batches, config.batch_size, True, interrupt.check)
        self._save(epoch, scores)
        seconds = time.perf_counter() - start
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "lr": f"{rate:.6g}",
            "train_loss": f"{loss_sum / self.steps:.6f}",
            "images_per_s": f"{speed:.1f}",
            "seconds": f"{seconds:.2f}",
        }
        if scores:
            row |= {
                "val_loss": f"{scores.loss:.6f}",
                "val_top1": f"{scores.top1:.6f}",
                "val_top5": f"{scores.top5:.6f}",
            }
        log.write(**row)
        say(
            f"epoch {epoch}/{config.epoch_size}: loss {loss_sum / self.steps:.4f}, {speed:.0f} images/s"
            + (f"; validation {scores}" if scores else "")
        )

    def _save(self, epoch: int, scores: Scores | None) -> None:
        path = self.run_dir / f"{self.config.model}-{epoch}_{self.step}.ckpt"
        save_checkpoint(self.net, path, self._info(epoch, scores))
        copy_checkpoint(path, self.last_path)
        if scores and (self.best is None or scores.top1 > self.best.top1):
            self.best = scores
            copy_checkpoint(path, self.best_path)
        self.kept.append(path)
        while len(self.kept) > self.config.keep_checkpoint_max:
            remove_checkpoint(self.kept.pop(0))

    def _info(self, epoch: int, scores: Scores | None) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "epoch": epoch,
            "step": self.step,
            "classes": list(self.train_folder.classes),
            "scores": dataclasses.asdict(scores) if scores else None,
            "config": dataclasses.asdict(self.config),
        }

    def _not_finite(self, epoch: int, loss: float) -> str:
        good = f"the last good checkpoint is {self.last_path}" if epoch > 1 else "no checkpoint had been saved"
        return (
            f"the loss is {loss} at step {self.step + 1} (epoch {epoch}, learning rate "
            f"{self.rates[self.step]:.3g}); {good}. A lower --lr or a longer --warmup_epochs may help"
        )


def train(config: Config) -> Path:
    """Train as the recipe says; see ``Trainer.run``."""
    return Trainer(config).run()
