# SPDX-License-Identifier: Apache-2.0
"""Images in batches: training's from our own loader, validation's from a MindSpore dataset pipeline."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import transforms, vision

from sknet.config import Config
from sknet.data.folder import EXTENSIONS, DataError, ImageFolder
from sknet.data.loader import TrainBatches

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


def iterate(batches: ds.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The (images, labels) of a MindSpore pipeline.

    Raises:
        DataError: an image cannot be read, naming the file.
    """
    try:
        yield from batches.create_tuple_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:
        text = str(error)
        found = re.search(r"data file is: (.+)\. ([^\n]*)", text) or re.search(r"\[ERROR\]()([^\n]*)", text)
        if not found:
            raise
        file, reason = found.groups()
        raise DataError(f"{file or 'the data set'}: cannot be read: {reason.strip()}") from error


def eval_batches(config: Config, folder: ImageFolder) -> ds.Dataset:
    """All images of a split in order: short side to size / crop_pct, centre crop; the last batch may be smaller."""
    workers = _workers(config)
    inter = INTERPOLATION[config.interpolation]
    image_ops = [
        vision.Decode(),
        vision.Resize(int(config.image_resize / config.crop_pct), inter),
        vision.CenterCrop(config.image_resize),
        *_finish(config),
    ]
    return _batches(_images(folder, workers, ds.SequentialSampler()), image_ops, config.batch_size, workers)
