# SPDX-License-Identifier: Apache-2.0
"""MindSpore dataset pipelines. A seed and an epoch decide the order and the augmentation of every image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import transforms, vision

from sknet.config import Config
from sknet.data.erasing import RandomErasing
from sknet.data.folder import EXTENSIONS, DataError, ImageFolder

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


def _batches(data: ds.Dataset, image_ops: list, batch_size: int, drop_remainder: bool, workers: int) -> ds.Dataset:
    data = data.map(image_ops, "image", num_parallel_workers=workers)
    data = data.map(transforms.TypeCast(ms.int32), "label", num_parallel_workers=1)
    return data.batch(batch_size, drop_remainder=drop_remainder, num_parallel_workers=1)


def count_images(folder: ImageFolder) -> int:
    """Number of images of a split."""
    return _images(folder, 1, ds.SequentialSampler()).get_dataset_size()


def train_batches(config: Config, folder: ImageFolder, epoch: int) -> ds.Dataset:
    """One epoch of training: (image (n, 3, size, size) float32 normalised, label (n,) int32).

    Grey, palette and transparent images become RGB. The same config and epoch give the same batches again.

    Raises:
        DataError: fewer images than one batch.
    """
    count, workers = count_images(folder), _workers(config)
    if config.drop_remainder and count < config.batch_size:
        raise DataError(
            f"batch_size: {config.batch_size}, but {folder.path} has only {count} images; "
            f"give a smaller one, or --drop_remainder False"
        )
    # The order is drawn here and not by MindSpore's sampler: it then depends on nothing but seed and epoch.
    order = np.arange(count)
    if config.shuffle:
        np.random.default_rng((config.seed, epoch)).shuffle(order)
    ds.config.set_seed(int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0]) & 0x7FFFFFFF)

    image_ops = [
        vision.RandomCropDecodeResize(
            config.image_resize,
            scale=tuple(config.scale),
            ratio=tuple(config.ratio),
            interpolation=INTERPOLATION[config.interpolation],
        )
    ]
    if config.hflip > 0:
        image_ops.append(vision.RandomHorizontalFlip(config.hflip))
    image_ops += _finish(config)
    data = _images(folder, workers, ds.SubsetSampler(order.tolist()))
    data = _batches(data, image_ops, config.batch_size, config.drop_remainder, workers)
    if config.re_prob > 0:
        # One worker, so that the batches come in order.
        data = data.map(RandomErasing(config.re_prob, (config.seed, epoch, 1)), "image", num_parallel_workers=1)
    return data


def iterate(batches: ds.Dataset, as_numpy: bool = False) -> Iterator[tuple[Any, Any]]:
    """The (images, labels) of one epoch, as Tensors or as arrays.

    Raises:
        DataError: an image cannot be read, naming the file.
    """
    try:
        yield from batches.create_tuple_iterator(num_epochs=1, output_numpy=as_numpy)
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
    return _batches(_images(folder, workers, ds.SequentialSampler()), image_ops, config.batch_size, False, workers)
