# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import time
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

import sknet_ops
from sknet.config import Config, ConfigError, save_config
from sknet.data.folder import ImageFolder, check_num_classes
from sknet.data.loader import TrainBatches
from sknet.data.pipeline import eval_batches, train_batches
from sknet.engine.checkpoint import copy_checkpoint, is_finite, remove_checkpoint, save_checkpoint
from sknet.engine.curves import plot_curves
from sknet.engine.device import use_device
from sknet.engine.environment import add_start
from sknet.engine.evaluate import Scores, evaluate
from sknet.engine.log import CsvLog, EpochProgress, TensorBoardLog, say
from sknet.engine.parallel import Group, broken
from sknet.engine.schedule import learning_rates
from sknet.engine.state import Progress, State, save_state
from sknet.engine.step import EvalStep
from sknet.engine.updates import Updates
from sknet.interrupt import Interrupt
from sknet.weights import load_weights


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and where the last good checkpoint is."""


def initial_weights(config: Config) -> str:
    """Path or address of the weights that a run starts from, or "". ConfigError if the model has none published."""
    from sknet.models.catalog import get_spec, list_models

    if not config.pretrained:
        return config.ckpt_path
    url = get_spec(config.model).weights_url
    if not url:
        having = [name for name in list_models() if get_spec(name).weights_url]
        raise ConfigError(
            f"pretrained: no weights are published for {config.model}, only for {', '.join(having)}; "
            f"give --pretrained False, and --ckpt_path if you have some"
        )
    return url


class Trainer:
    """One run: everything is checked and built on construction, `run` trains."""

    def __init__(self, config: Config) -> None:
        from sknet.models import create_model

        self.config = config
        use_device(config)
        self.group = Group.join(config)
        self.train_folder = ImageFolder.open(config.data_dir, config.train_split)
        num_classes = check_num_classes(config.num_classes, self.train_folder)
        self.val_folder = None
        if config.val_while_train:
            self.val_folder = ImageFolder.open(config.data_dir, config.val_split, self.train_folder.classes)
        self.steps = len(self._batches(0))

        ms.set_context(mode=config.mode)
        ms.set_seed(config.seed)
        np.random.seed(config.seed)
        self.run_dir = Path(config.ckpt_save_dir)
        self.progress = Progress()
        state = self._unfinished()
        self.net = create_model(config.model, num_classes=num_classes)
        source = initial_weights(config)
        if source and not state and load_weights(self.net, source, replace_classifier=True):
            self._say(f"the classifier of {source} is for other classes: a new one, for {num_classes}, is trained")
        if config.freeze_features:
            for parameter in self.net.get_parameters():
                parameter.requires_grad = parameter.name in ("classifier.weight", "classifier.bias")
        if config.amp_level != "O0":
            sknet_ops.set_map_dtype(self.net, ms.float16)
        self.updates = Updates(self.net, config, learning_rates(config, self.steps), self.group.size)
        self.eval_step = EvalStep(self.net)

        if state:
            state.restore(self.updates.parameters())
            self.progress = state.progress
        self.resumed = state is not None
        self.group.check_same(self.progress.step, "step to start from")

    @property
    def last_path(self) -> Path:
        return self.run_dir / f"{self.config.model}-last.ckpt"

    @property
    def best_path(self) -> Path:
        return self.run_dir / f"{self.config.model}-best.ckpt"

    @property
    def state_path(self) -> Path:
        return self.run_dir / f"{self.config.model}-state.safetensors"

    def _unfinished(self) -> State | None:
        """The state to continue from, if the run folder holds one."""
        if not self.config.resume or not self.state_path.is_file():
            return None
        state = State.read(self.state_path)
        if state.progress.finished and state.progress.epoch >= self.config.epoch_size:
            return None  # of a run that came to its end
        state.check(self.config, self.steps)
        return state

    def run(self) -> Path:
        """Train to the end, from the start or from where the run folder's state stands.

        Returns:
            The best checkpoint by validation accuracy, or the last one of a run without validation.

        Raises:
            TrainingError: the loss is not finite.
            GroupError: another process of the run has ended.
            KeyboardInterrupt: after the state has been saved.
        """
        config, progress = self.config, self.progress
        if self.group.first:
            self._open()
        try:
            with Interrupt() as interrupt:
                interrupt.check()  # one that came while all was built
                while not (progress.finished and progress.epoch >= config.epoch_size):
                    if progress.finished:
                        progress.epoch, progress.step_in_epoch, progress.loss_sum = progress.epoch + 1, 0, 0.0
                        progress.finished = False
                    self._epoch(interrupt)
        except KeyboardInterrupt:
            if progress.step and self.group.first:
                with self.updates.averaged():
                    save_checkpoint(self.net, self.last_path, self._info(None))
                self._save_state()
                say(f"interrupted in epoch {progress.epoch} at step {progress.step}; saved {self.last_path}")
            raise
        finally:
            if self.group.first:
                self._close()
        if progress.best is None:
            self._say(f"checkpoint {self.last_path}")
            return self.last_path
        self._say(f"validation accuracy {100 * progress.best['top1']:.2f} %")
        self._say(f"checkpoint {self.best_path}")
        return self.best_path

    def _open(self) -> None:
        """Begin or continue what is written."""
        config, progress = self.config, self.progress
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for partial in self.run_dir.glob(".*.partial.*"):
            partial.unlink()  # of a run that was killed
        if not self.resumed:
            self.state_path.unlink(missing_ok=True)
        save_config(config, self.run_dir / "config.yaml")
        add_start(self.run_dir / "environment.json", progress.step, processes=self.group.size)
        self.log = CsvLog(self.run_dir / "log.csv", progress.rows)
        if not self.resumed:
            shutil.rmtree(self.run_dir / "tensorboard", ignore_errors=True)
        self.board = TensorBoardLog(self.run_dir / "tensorboard", progress.step)
        for note in config.notes:
            say(note)
        if config.amp_level != "O0":
            say(f"mixed precision ({config.amp_level}): maps in float16, parameters and statistics in float32")
        params = sum(p.size for p in self.net.trainable_params())
        say(
            f"{config.model}: {params:,} parameters, {len(self.train_folder.classes)} classes, "
            f"{config.epoch_size} epochs of {self.steps} steps of {config.batch_size} images"
            + (f" in each of {self.group.size} processes" if self.group.size > 1 else "")
        )
        if self.resumed:
            say(f"continuing {self.state_path} after step {progress.step}")

    def _close(self) -> None:
        self.board.close()
        if self.progress.rows:
            title = f"{self.config.model}, {self.run_dir.name}"
            plot_curves(self.progress.rows, self.run_dir / "curves.png", title)

    def _say(self, text: str) -> None:
        if self.group.first:
            say(text)

    def _batches(self, epoch: int) -> TrainBatches:
        return train_batches(self.config, self.train_folder, epoch, self.group.rank, self.group.size)

    def _step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One step; returns its loss. GroupError if it failed where another process may be to blame."""
        try:
            return self.updates(self.progress.step, images, labels)
        except RuntimeError as error:
            if self.group.size == 1:
                raise
            raise broken(error) from error

    def _epoch(self, interrupt: Interrupt) -> None:
        """The rest of the epoch that `progress` stands in."""
        config, progress, start = self.config, self.progress, time.perf_counter()
        done = progress.step_in_epoch
        # Only the norms of the features work otherwise in training.
        self.updates.step.set_train(not config.freeze_features)
        batches = self._batches(progress.epoch)
        with (
            EpochProgress(
                progress.epoch, config.epoch_size, self.steps, config.log_interval, done, not self.group.first
            ) as bar,
            contextlib.closing(batches.starting_at(done)) as rest,
        ):
            for images, labels in rest:
                loss = self._step(images, labels)
                if not math.isfinite(loss):
                    raise TrainingError(self._not_finite(loss))
                rate = self.updates.rates[progress.step]
                progress.step += 1
                progress.step_in_epoch += 1
                progress.loss_sum += loss
                bar.update(progress.step_in_epoch, len(labels), loss, rate)
                if self.group.first and progress.step % config.log_interval == 0:
                    self.board.step(progress.step, loss, rate)
                interrupt.check()
                if self.group.first and config.save_interval_steps and progress.step % config.save_interval_steps == 0:
                    self._save_state()
            speed = bar.images_per_s
        if self.group.first:
            self._finish_epoch(interrupt, start, speed * self.group.size)
        progress.finished = True

    def _finish_epoch(self, interrupt: Interrupt, start: float, speed: float) -> None:
        """Validation, checkpoint, log and state."""
        config, progress = self.config, self.progress
        epoch, mean_loss, scores = progress.epoch, progress.loss_sum / self.steps, None
        with self.updates.averaged():
            if self.val_folder and (epoch % config.val_interval == 0 or epoch == config.epoch_size):
                batches = eval_batches(config, self.val_folder)
                scores = evaluate(self.eval_step, batches, config.batch_size, True, interrupt.check)
            dropped = self._save(scores)
        row = {
            "epoch": str(epoch),
            "step": str(progress.step),
            "lr": f"{self.updates.rates[progress.step - 1]:.6g}",
            "train_loss": f"{mean_loss:.6f}",
            "images_per_s": f"{speed:.1f}",
            "seconds": f"{time.perf_counter() - start:.2f}",
        }
        if scores:
            row |= {
                "val_loss": f"{scores.loss:.6f}",
                "val_top1": f"{scores.top1:.6f}",
                "val_top5": f"{scores.top5:.6f}",
            }
        row = self.log.add(**row)
        progress.rows, progress.finished = self.log.rows, True
        self._save_state()
        self.log.write()
        self.board.row(row)
        for path in dropped:
            remove_checkpoint(path)
        say(
            f"epoch {epoch}/{config.epoch_size}: loss {mean_loss:.4f}, {speed:.0f} images/s"
            + (f"; validation {scores}" if scores else "")
        )

    def _save_state(self) -> None:
        save_state(self.state_path, self.updates.parameters(), self.progress, self.config, self.steps)

    def _save(self, scores: Scores | None) -> list[Path]:
        """Write the epoch's checkpoints; returns those that are too many once the state is saved."""
        progress = self.progress
        path = self.run_dir / f"{self.config.model}-{progress.epoch}_{progress.step}.ckpt"
        save_checkpoint(self.net, path, self._info(scores))
        copy_checkpoint(path, self.last_path)
        if scores and (progress.best is None or scores.top1 > progress.best["top1"]):
            progress.best = dataclasses.asdict(scores)
            copy_checkpoint(path, self.best_path)
        progress.kept.append(path.name)
        count = max(0, len(progress.kept) - self.config.keep_checkpoint_max)
        dropped, progress.kept = progress.kept[:count], progress.kept[count:]
        return [self.run_dir / name for name in dropped]

    def _info(self, scores: Scores | None) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "epoch": self.progress.epoch,
            "step": self.progress.step,
            "classes": list(self.train_folder.classes),
            "scores": dataclasses.asdict(scores) if scores else None,
            "config": dataclasses.asdict(self.config),
        }

    def _last_good(self) -> Path | None:
        """The newest checkpoint whose weights are known to be good: a step may have spoiled those that it led to."""
        progress = self.progress
        saved = [self.last_path] if progress.epoch > 1 else []
        kept = [self.run_dir / name for name in reversed(progress.kept)]
        if progress.step_in_epoch == 0:
            saved, kept = [], kept[1:]  # the loss is that of the newest checkpoint's weights
        best = [self.best_path] if progress.best else []
        return next((path for path in (*saved, *kept, *best) if is_finite(path)), None)

    def _not_finite(self, loss: float) -> str:
        epoch, step, path = self.progress.epoch, self.progress.step, self._last_good()
        good = f"the last good checkpoint is {path}" if path else "no good checkpoint had been saved"
        return (
            f"the loss is {loss} at step {step + 1} (epoch {epoch}, learning rate "
            f"{self.updates.rates[step]:.3g}); {good}. A lower --lr or a longer --warmup_epochs may help"
        )


def train(config: Config) -> Path:
    """Train as the recipe says; see ``Trainer.run``."""
    return Trainer(config).run()
