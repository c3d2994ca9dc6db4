# SPDX-License-Identifier: Apache-2.0
"""Batches of training images, prepared by threads. Order and augmentation depend on seed, epoch and index alone."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image

from sknet.config import Config
from sknet.data.augment import Augment
from sknet.data.folder import DataError, ImageFolder
from sknet.data.mixing import Mixing

# Parts of the seeds, so that no two generators are the same.
_ORDER, _IMAGE, _REPLACEMENT, _MIXING = 0, 1, 2, 3
_REPLACEMENTS = 20  # unreadable ones in a row that end the run
_NAMED = 10  # files in a warning

# Pillow's PNG reader reports damage as SyntaxError or ValueError, too.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

_log = logging.getLogger("sknet.data")


def warn_of_unreadable(what: str, reasons: dict[str, str]) -> None:
    """One warning that counts and names the files (path -> reason)."""
    files = sorted(reasons)
    named = "; ".join(f"{file}: {reasons[file]}" for file in files[:_NAMED])
    more = f"; and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    _log.warning(
        "%s: %d image%s could not be read: %s%s", what, len(files), "" if len(files) == 1 else "s", named, more
    )


class TrainBatches:
    """One epoch: (image (n, 3, size, size) float32 normalised, label (n,) int32) arrays, in order.

    With mixup or cutmix the labels are targets, (n, classes) float32. Grey, palette and transparent images become RGB.
    The same config and epoch give the same batches again, whatever the number of workers and wherever the iteration
    starts. Where `corrupt` is "skip", another image, drawn for its place, stands in for one that cannot be read, and
    the end of the epoch warns of those that it met.

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
        self._mix = None
        if config.mixup > 0 or config.cutmix > 0:
            self._mix = Mixing(config.mixup, config.cutmix, config.cutmix_prob, len(folder.classes))
        self._unreadable: dict[str, str] = {}

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
            if self._unreadable:
                warn_of_unreadable(f"epoch {self._epoch}: replaced by others", self._unreadable)

    def _batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        size = self._config.batch_size
        indices = self._order[number * size : (number + 1) * size]
        samples = [self._sample(int(index)) for index in indices]
        images, labels = np.stack([image for image, _ in samples]), np.array([label for _, label in samples], np.int32)
        return self._mix(images, labels, self._rng(_MIXING, number)) if self._mix else (images, labels)

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng((self._config.seed, self._epoch, *what))

    def _sample(self, index: int) -> tuple[np.ndarray, int]:
        """The image and its label or, where unreadable ones are skipped, another's."""
        try:
            return self._image(index), self._labels[index]
        except DataError as error:
            if self._config.corrupt == "error":
                raise
            self._unreadable[self._files[index]] = str(error.__cause__)
        for other in self._rng(_REPLACEMENT, index).integers(len(self._files), size=_REPLACEMENTS).tolist():
            try:
                return self._image(other), self._labels[other]
            except DataError as error:
                self._unreadable[self._files[other]] = str(error.__cause__)
        raise DataError(f"{self._folder.path}: of {1 + _REPLACEMENTS} images none could be read")

    def _image(self, index: int) -> np.ndarray:
        rng = self._rng(_IMAGE, index)
        try:
            with Image.open(self._files[index]) as image:
                return self._augment(image, rng)
        except UNREADABLE as error:
            raise DataError(f"{self._files[index]}: cannot be read: {error}") from error
