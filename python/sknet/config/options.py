# SPDX-License-Identifier: Apache-2.0
"""Every option: key, type, default, meaning and what it may be. Keys are those of MindCV's configs."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sknet.config.policy import parse_policy


class ConfigError(ValueError):
    """A recipe or an option that cannot be used, naming it."""


DEVICES = ("Ascend", "GPU", "CPU")
# Where the operators take half precision maps. Those for GPUs do, but not under MindSpore.
MIXED_PRECISION = ("Ascend",)

_BOUNDS = {"at_least": operator.lt, "at_most": operator.gt, "below": operator.ge}


def _option(
    default: Any,
    group: str,
    text: str,
    choices: Sequence[Any] | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Any:
    metadata = {
        "group": group,
        "help": text,
        "choices": choices,
        "at_least": at_least,
        "below": below,
        "at_most": at_most,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Config:
    """A resolved recipe. `notes` are lines on what was decided otherwise than the recipe's file says."""

    notes: ClassVar[tuple[str, ...]] = ()

    mode: int = _option(0, "system", "0: graph mode, 1: PyNative", (0, 1))
    distribute: bool = _option(False, "system", "data parallel training over several processes")
    device_target: str = _option("CPU", "system", "device to compute on", DEVICES)
    num_parallel_workers: int = _option(8, "system", "threads that prepare images, at most one a processor", at_least=1)
    val_while_train: bool = _option(True, "system", "validate while training; the best checkpoint needs it")
    val_interval: int = _option(1, "system", "epochs between validations", at_least=1)
    log_interval: int = _option(100, "system", "steps between log lines where there is no progress bar", at_least=1)
    seed: int = _option(42, "system", "decides initial weights, order of the data and augmentation", at_least=0)

    dataset: str = _option(
        "imagenet", "dataset", "kind of data set; all kinds are image folders", ("imagenet", "image_folder")
    )
    data_dir: str = _option("./", "dataset", "folder that holds SPLIT/CLASS/IMAGE")
    train_split: str = _option("train", "dataset", "name of the training split")
    val_split: str = _option("val", "dataset", "name of the validation split")
    shuffle: bool = _option(True, "dataset", "a new order of the images each epoch")
    dataset_download: bool = _option(False, "dataset", "download the data set")
    corrupt: str = _option(
        "error",
        "dataset",
        "images that cannot be read: an error that names the file, or skip: named and counted in a warning",
        ("error", "skip"),
    )
    batch_size: int = _option(128, "dataset", "images a step", at_least=1)
    drop_remainder: bool = _option(True, "dataset", "leave out the last, smaller batch of a training epoch")

    image_resize: int = _option(224, "augmentation", "height and width of the network's input", at_least=1)
    scale: tuple[float, float] = _option((0.08, 1.0), "augmentation", "area of the random crop, share of the image")
    ratio: tuple[float, float] = _option((0.75, 1.333), "augmentation", "width over height of the random crop")
    crop_padding: int = _option(
        0,
        "augmentation",
        "above 0: instead of the random resized crop, the image is padded by so many black pixels on each side and a "
        "square of image_resize is cut out, as for CIFAR-10",
        at_least=0,
    )
    hflip: float = _option(0.5, "augmentation", "probability of a horizontal flip", at_least=0, at_most=1)
    vflip: float = _option(0.0, "augmentation", "probability of a vertical flip", at_least=0, at_most=1)
    color_jitter: tuple[float, ...] = _option(
        (),
        "augmentation",
        "change of brightness, contrast and saturation: one number, three, or four with the hue; "
        "none where auto_augment is given",
    )
    auto_augment: str | None = _option(
        None, "augmentation", "autoaug, autoaugr or randaug, with settings, such as randaug-m7-n2-mstd0.5"
    )
    interpolation: str = _option(
        "bilinear", "augmentation", "how images are resized", ("nearest", "bilinear", "bicubic", "area")
    )
    crop_pct: float = _option(
        0.875, "augmentation", "validation: share of the resized side that the crop keeps", at_least=0.01, at_most=1
    )
    re_prob: float = _option(0.0, "augmentation", "probability of erasing a rectangle", at_least=0, at_most=1)
    re_scale: tuple[float, float] = _option((0.02, 0.33), "augmentation", "area of that rectangle, share of the image")
    re_ratio: tuple[float, float] = _option((0.3, 3.3), "augmentation", "height over width of that rectangle")
    re_max_attempts: int = _option(
        10, "augmentation", "draws of a rectangle; if none fits, the image stays whole", at_least=1
    )
    mixup: float = _option(
        0.0, "augmentation", "parameter of the beta distribution of mixup's share, 0.2 for example; 0: none", at_least=0
    )
    cutmix: float = _option(0.0, "augmentation", "the same for cutmix, 1.0 for example; 0: none", at_least=0)
    cutmix_prob: float = _option(
        1.0, "augmentation", "probability of a batch being mixed, if mixup or cutmix is given", at_least=0, at_most=1
    )
    mean: tuple[float, float, float] = _option((123.675, 116.28, 103.53), "augmentation", "subtracted, of 0..255")
    std: tuple[float, float, float] = _option((58.395, 57.12, 57.375), "augmentation", "divided by, of 0..255")

    model: str = _option("skresnet18", "model", "one of `sknet info`'s models")
    num_classes: int | None = _option(None, "model", "classes; by default the number of class folders", at_least=1)
    pretrained: bool = _option(False, "model", "start from published weights, which are downloaded once")
    ckpt_path: str = _option(
        "", "model", "weights to start from, or to validate: path or address of a .ckpt or .safetensors file"
    )
    freeze_features: bool = _option(False, "model", "train the classifier only; all else, statistics too, stays")
    keep_checkpoint_max: int = _option(
        10, "model", "newest epochs' checkpoints to keep, beside best and last", at_least=0
    )
    ckpt_save_dir: str = _option("./ckpt", "model", "folder of the run: checkpoints, log, resolved config")
    resume: bool = _option(True, "model", "continue the unfinished run of ckpt_save_dir, if it holds one")
    save_interval_steps: int = _option(
        0, "model", "steps between saved states within an epoch, beside those at its end; 0: none", at_least=0
    )
    epoch_size: int = _option(90, "model", "epochs", at_least=1)
    dataset_sink_mode: bool = _option(True, "model", "feed data through a device queue; no effect here")
    amp_level: str = _option(
        "O0", "model", "mixed precision in training; O0: float32 throughout", ("O0", "O1", "O2", "O3")
    )

    loss: str = _option("CE", "loss", "loss function", ("CE", "BCE"))
    label_smoothing: float = _option(0.0, "loss", "share of the target spread over all classes", at_least=0, below=1)

    scheduler: str = _option(
        "cosine_decay",
        "scheduler",
        "learning rate after the warm-up",
        ("constant", "cosine_decay", "step_decay", "multi_step_decay", "polynomial_decay"),
    )
    lr: float = _option(0.001, "scheduler", "highest learning rate", at_least=0)
    min_lr: float = _option(1e-6, "scheduler", "lowest learning rate of the decay", at_least=0)
    warmup_epochs: int = _option(3, "scheduler", "epochs of linear warm-up", at_least=0)
    warmup_factor: float = _option(0.0, "scheduler", "the warm-up starts at lr times this", at_least=0)
    decay_epochs: int = _option(
        100, "scheduler", "epochs of cosine decay, after the warm-up; of step_decay: between two steps", at_least=1
    )
    decay_rate: float = _option(
        0.9,
        "scheduler",
        "factor of each step of step_decay and multi_step_decay; power of polynomial_decay",
        at_least=0,
    )
    multi_step_decay_milestones: tuple[int, ...] = _option(
        (), "scheduler", "multi_step_decay: epochs after the warm-up"
    )

    opt: str = _option("momentum", "optimizer", "optimizer", ("momentum", "nesterov", "adamw", "lamb"))
    momentum: float = _option(0.9, "optimizer", "share of the last update that the next one keeps", at_least=0, below=1)
    weight_decay: float = _option(1e-6, "optimizer", "weight decay", at_least=0)
    weight_decay_filter: str = _option(
        "disable", "optimizer", "norm_and_bias: none on norms and biases", ("disable", "norm_and_bias")
    )
    loss_scale: float = _option(1.0, "optimizer", "the loss is multiplied, the gradients divided by this", at_least=1)
    use_nesterov: bool = _option(False, "optimizer", "Nesterov momentum; opt: nesterov sets it")
    beta1: float = _option(0.9, "optimizer", "adamw, lamb: share of the mean gradient kept", at_least=0, below=1)
    beta2: float = _option(0.999, "optimizer", "adamw, lamb: share of the mean square kept", at_least=0, below=1)
    eps: float = _option(1e-8, "optimizer", "adamw, lamb: added to the root of the mean square", at_least=0)
    clip_grad: bool = _option(False, "optimizer", "limit the gradients' global norm")
    clip_value: float = _option(15.0, "optimizer", "the limit of clip_grad", at_least=1e-12)
    gradient_accumulation_steps: int = _option(
        1, "optimizer", "steps whose gradients are averaged for one update", at_least=1
    )
    ema: bool = _option(False, "optimizer", "average the weights over the updates; validate and save the average")
    ema_decay: float = _option(
        0.9999, "optimizer", "ema: share of the average that an update keeps", at_least=0, below=1
    )

    def without_mixed_precision(self, file: str) -> None:
        """Float32 instead of what `file` asks for, and a note that says so, where the device has nothing else."""
        if self.amp_level in ("O1", "O2", "O3") and self.device_target not in MIXED_PRECISION:
            self.notes = (
                f"amp_level: {self.amp_level} in {file}, but device_target {self.device_target} has no mixed "
                f"precision: computing in float32 (O0)",
            )
            self.amp_level = "O0"

    def check(self) -> None:
        """ConfigError on the first value that is out of its range, naming the key."""
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if value is None:
                continue
            if meta["choices"] is not None and value not in meta["choices"]:
                raise ConfigError(f"{field.name}: expected one of {', '.join(map(str, meta['choices']))}; got {value}")
            for bound, outside in _BOUNDS.items():
                if meta[bound] is not None and outside(value, meta[bound]):
                    raise ConfigError(f"{field.name}: expected {bound.replace('_', ' ')} {meta[bound]}, got {value}")
        for name in ("scale", "ratio", "re_scale", "re_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name}: expected 0 < low <= high, got {low}, {high}")
        if min(self.std) <= 0:
            raise ConfigError(f"std: expected positive numbers, got {self.std}")
        self._check_augmentation()
        if self.scheduler == "multi_step_decay" and not self.multi_step_decay_milestones:
            raise ConfigError(
                "multi_step_decay_milestones: expected at least one epoch for scheduler multi_step_decay, got none"
            )
        if self.opt in ("adamw", "lamb") and self.eps == 0:
            raise ConfigError(f"eps: expected above 0 with opt {self.opt}, got 0")
        if self.pretrained and self.ckpt_path:
            raise ConfigError("pretrained: True given beside a ckpt_path; give one of the two")
        self._check_available()

    def _check_augmentation(self) -> None:
        jitter = self.color_jitter
        if len(jitter) not in (0, 1, 3, 4) or min(jitter, default=0) < 0 or (len(jitter) == 4 and jitter[3] > 0.5):
            raise ConfigError(
                f"color_jitter: expected 1, 3 or 4 numbers, none below 0, the fourth at most 0.5; got {jitter}"
            )
        if self.auto_augment:
            try:
                parse_policy(self.auto_augment)
            except ValueError as error:
                raise ConfigError(f"auto_augment: expected {error}; got {self.auto_augment}") from None

    def _check_available(self) -> None:
        """ConfigError on what MindCV's keys can ask for and this version does not do."""
        mixed = self.device_target in MIXED_PRECISION
        refused = {
            "amp_level": (
                self.amp_level not in (("O0", "O1", "O2") if mixed else ("O0",)),
                "norms in half precision; give --amp_level O2"
                if mixed
                else f"mixed precision on device_target {self.device_target}; give --amp_level O0",
            ),
            "dataset_download": (self.dataset_download, "downloading data sets; give --dataset_download False"),
            "use_nesterov": (
                self.use_nesterov and self.opt in ("adamw", "lamb"),
                f"Nesterov momentum with {self.opt}; give --use_nesterov False",
            ),
        }
        for name, (asked, what) in refused.items():
            if asked:
                raise ConfigError(f"{name}: {getattr(self, name)} given, but this version has not: {what}")
