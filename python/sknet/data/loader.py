# SPDX-License-Identifier: Apache-2.0
"""Batches of training images, prepared by threads. Order and augmentation depend on seed, epoch and index alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image

from sknet.config import Config
from sknet.data.augment import Augment
from sknet.data.folder import DataError, ImageFolder

# Parts of the seeds, so that no two generators are the same.
_ORDER, _IMAGE = 0, 1


class TrainBatches:
    """One epoch: (image (n, 3, size, size) float32 normalised, label (n,) int32) arrays, in order.

    Grey, palette and transparent images become RGB. The same config and epoch give the same batches again, whatever
    the number of workers and wherever the iteration starts.

    Args:
        workers: threads; MindSpore is not used in them.
        rank, ranks: this process and the number of those that share each step's `ranks * batch_size` images.

    Raises:
        DataError: fewer images than one batch; when iterated, an image that cannot be read, naming the file.
    """

    def __init__(
        self, config: Config, folder: ImageFolder, epoch: int, workers: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self._rank, self._ranks = rank, ranks
        self._config, self._folder, self._epoch, self._workers = config, folder, epoch, workers
        self._files, self._labels = folder.samples()
        count = len(self._files)
        if config.drop_remainder and count < config.batch_size * ranks:
            times = f" in each of {ranks} processes" if ranks > 1 else ""
            raise DataError(
                f"batch_size: {config.batch_size}{times}, but {folder.path} has only {count} images; "
                f"give a smaller one, or --drop_remainder False"
            )
        self._order = np.arange(count)
        if config.shuffle:
            np.random.default_rng((config.seed, epoch, _ORDER)).shuffle(self._order)
        self._augment = Augment(config)

    def __len__(self) -> int:
        count, size = len(self._order), self._config.batch_size * self._ranks
        return count // size if self._config.drop_remainder else -(-count // size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches from number `first` on; those before are not read."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="images")
        ready: deque[Future] = deque()
        try:
            for number in range(first, len(self)):
                ready.append(pool.submit(self._batch, number * self._ranks + self._rank))
                if len(ready) > self._workers + 1:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        size = self._config.batch_size
        indices = self._order[number * size : (number + 1) * size]
        images = np.stack([self._image(int(index)) for index in indices])
        return images, self._labels[indices]

    def _image(self, index: int) -> np.ndarray:
        rng = np.random.default_rng((self._config.seed, self._epoch, _IMAGE, index))
        try:
            with Image.open(self._files[index]) as image:
                return self._augment(image, rng)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            # Pillow's PNG reader reports damage as SyntaxError or ValueError, too.
            raise DataError(f"{self._files[index]}: cannot be read: {error}") from error
