# SPDX-License-Identifier: Apache-2.0
"""The one thread that calls MindSpore, which is not safe across threads. It takes images as batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

Work = Callable[[Sequence[np.ndarray]], Sequence[Any]]


class StoppedError(RuntimeError):
    """The executor takes no more images."""


class BatchExecutor:
    """Collects images, at most `max_batch` for at most `max_wait_s`, and works on them in its own thread.

    Args:
        prepare: called in the thread, first of all; gives the function that turns images into answers, one each, in
            order. If it fails, ``start`` raises its error.
        max_batch, max_wait_s: as in ``Limits``.
        observe: called after each batch with its size and its seconds.
    """

    def __init__(
        self,
        prepare: Callable[[], Work],
        max_batch: int,
        max_wait_s: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._prepare, self._observe = prepare, observe
        self._max_batch, self._max_wait = max_batch, max_wait_s
        self._waiting: deque[tuple[np.ndarray, Future]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._ready: Future = Future()
        self._thread = threading.Thread(target=self._run, name="sknet-executor", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until it is ready for images."""
        self._thread.start()
        self._ready.result()

    @property
    def alive(self) -> bool:
        """Whether images are being taken."""
        return self._thread.is_alive() and not self._stopping and self._ready.done()

    def submit(self, image: np.ndarray) -> Future:
        """The answer for an image, to come. Cancelling it takes an image that still waits out of the queue.

        Raises:
            StoppedError: after ``stop``.
        """
        future: Future = Future()
        with self._changed:
            if self._stopping:
                raise StoppedError("the service is stopping")
            self._waiting.append((image, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Answer what waits, take nothing more, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _take(self) -> list[tuple[np.ndarray, Future]]:
        """The next batch; empty only at the end."""
        with self._changed:
            while True:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                end = time.monotonic() + self._max_wait
                while len(self._waiting) < self._max_batch and not self._stopping:
                    left = end - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
                batch = []
                while self._waiting and len(batch) < self._max_batch:
                    image, future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((image, future))
                if batch or (self._stopping and not self._waiting):
                    return batch

    def _run(self) -> None:
        try:
            work = self._prepare()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while batch := self._take():
            start = time.perf_counter()
            try:
                answers = work([image for image, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)
            except Exception as error:
                # One failure must not end the service: those whom it concerns are told.
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            self._observe(len(batch), time.perf_counter() - start)
