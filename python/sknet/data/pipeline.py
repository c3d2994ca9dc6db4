# SPDX-License-Identifier: Apache-2.0
"""Images in batches: training's from our own loader, validation's from a MindSpore dataset pipeline."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import transforms, vision

from sknet.config import Config
from sknet.data.folder import EXTENSIONS, DataError, ImageFolder
from sknet.data.loader import TrainBatches, warn_of_unreadable

INTERPOLATION = {
    "nearest": vision.Inter.NEAREST,
    "bilinear": vision.Inter.BILINEAR,
    "bicubic": vision.Inter.BICUBIC,
    "area": vision.Inter.AREA,
}


def _workers(config: Config) -> int:
    # MindSpore refuses more workers than processors.
    return max(1, min(config.num_parallel_workers, len(os.sched_getaffinity(0))))


def _images(folder: ImageFolder, workers: int, sampler: ds.Sampler) -> ds.Dataset:
    labels = {name: i for i, name in enumerate(folder.classes) if name in folder.present}
    return ds.ImageFolderDataset(
        str(folder.path),
        num_parallel_workers=workers,
        sampler=sampler,
        extensions=list(EXTENSIONS),
        class_indexing=labels,
    )


def _finish(config: Config) -> list:
    return [vision.Normalize(mean=list(config.mean), std=list(config.std)), vision.HWC2CHW()]


def _batches(data: ds.Dataset, image_ops: list, batch_size: int, workers: int) -> ds.Dataset:
    data = data.map(image_ops, "image", num_parallel_workers=workers)
    data = data.map(transforms.TypeCast(ms.int32), "label", num_parallel_workers=1)
    return data.batch(batch_size, num_parallel_workers=1)


def train_batches(config: Config, folder: ImageFolder, epoch: int, rank: int = 0, ranks: int = 1) -> TrainBatches:
    """One epoch of training; see ``TrainBatches``."""
    return TrainBatches(config, folder, epoch, _workers(config), rank, ranks)


def _reason(text: str) -> str:
    """The line that tells something, of an error of MindSpore's pipeline."""
    found = re.search(r"\[ERROR\]([^\n]*)", text)
    return (found[1] if found else text).strip()


@lru_cache(maxsize=4)
def _unreadable(folder: ImageFolder, count: int) -> dict[str, str]:
    """The first `count` files of a split that MindSpore cannot decode, and why. Called only where there are some."""
    found: dict[str, str] = {}
    decode = vision.Decode()
    for file in folder.samples()[0]:
        if len(found) == count:
            break
        try:
            decode(np.fromfile(file, np.uint8))
        except RuntimeError as error:
            found[file] = _reason(str(error))
    return found


class Skipping:
    """A MindSpore pipeline over a split that leaves out what cannot be read, and warns of it at the end.

    Raises:
        DataError: when iterated, if nothing could be read.
    """

    def __init__(self, batches: ds.Dataset, folder: ImageFolder) -> None:
        self._batches, self._folder = batches, folder

    def get_dataset_size(self) -> int:
        return self._batches.get_dataset_size()

    def create_tuple_iterator(self, **arguments: Any) -> Iterator[tuple[np.ndarray, ...]]:
        before, seen = ds.config.get_error_samples_mode(), 0
        # The pipeline reads it when it starts.
        ds.config.set_error_samples_mode(ds.config.ErrorSamplesMode.SKIP)
        try:
            for batch in self._batches.create_tuple_iterator(**arguments):
                seen += len(batch[0])
                yield batch
        finally:
            ds.config.set_error_samples_mode(before)
        missing = len(self._folder.samples()[0]) - seen
        if seen == 0:
            raise DataError(f"{self._folder.path}: none of {missing} images could be read")
        if missing:
            warn_of_unreadable(f"{self._folder.path}: left out", _unreadable(self._folder, missing))


def iterate(batches: ds.Dataset | Skipping) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The (images, labels) of a MindSpore pipeline.

    Raises:
        DataError: an image cannot be read, naming the file.
    """
    try:
        yield from batches.create_tuple_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:
        text = str(error)
        found = re.search(r"data file is: (.+)\. ([^\n]*)", text)
        if not found and "[ERROR]" not in text:
            raise
        file, reason = found.groups() if found else ("the data set", _reason(text))
        raise DataError(f"{file}: cannot be read: {reason.strip()}") from error


def eval_batches(config: Config, folder: ImageFolder) -> ds.Dataset | Skipping:
    """All images of a split in order: short side to size / crop_pct, centre crop; the last batch may be smaller.

    Those that cannot be read are an error or, where `corrupt` is "skip", left out.
    """
    workers = _workers(config)
    inter = INTERPOLATION[config.interpolation]
    image_ops = [
        vision.Decode(),
        vision.Resize(int(config.image_resize / config.crop_pct), inter),
        vision.CenterCrop(config.image_resize),
        *_finish(config),
    ]
    batches = _batches(_images(folder, workers, ds.SequentialSampler()), image_ops, config.batch_size, workers)
    return Skipping(batches, folder) if config.corrupt == "skip" else batches
