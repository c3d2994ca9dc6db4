# SPDX-License-Identifier: Apache-2.0
"""The executor's thread: batches, failures, cancellation, the end. No network is needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait

import numpy as np
import pytest
from sknet.serve.executor import BatchExecutor, StoppedError


class Recorder:
    """Doubles numbers, and keeps the batches and the threads that it was called in; waits until it may."""

    def __init__(self, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, images: Sequence[np.ndarray]) -> list[int]:
        assert self.go.wait(30)
        self.threads.add(threading.get_ident())
        self.batches.append([int(x) for x in images])
        if 13 in self.batches[-1]:
            raise RuntimeError("unlucky")
        return [2 * int(x) for x in images]


def started(work: Recorder, max_batch: int = 4, max_wait_s: float = 0.0) -> BatchExecutor:
    executor = BatchExecutor(lambda: work, max_batch, max_wait_s)
    executor.start()
    return executor


def held_up(work: Recorder, executor: BatchExecutor) -> Future:
    """The first image is being worked on, the next ones wait."""
    first = executor.submit(np.array(0))
    while not first.running():
        pass
    return first


def test_batches_in_one_thread() -> None:
    work = Recorder(held=True)
    executor = started(work)
    first = held_up(work, executor)
    rest = [executor.submit(np.array(i)) for i in range(1, 11)]
    work.go.set()
    assert [f.result(30) for f in (first, *rest)] == [2 * i for i in range(11)]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert len(work.threads) == 1 and threading.get_ident() not in work.threads
    executor.stop()


def test_waits_for_company() -> None:
    work = Recorder()
    executor = started(work, max_batch=2, max_wait_s=20)
    futures = [executor.submit(np.array(i)) for i in (1, 2)]
    assert [f.result(30) for f in futures] == [2, 4]
    assert work.batches == [[1, 2]]
    executor.stop()


def test_a_failure_concerns_its_batch_only() -> None:
    work = Recorder()
    executor = started(work)
    with pytest.raises(RuntimeError, match="unlucky"):
        executor.submit(np.array(13)).result(30)
    assert executor.submit(np.array(5)).result(30) == 10
    assert executor.alive
    executor.stop()


def test_cancelled_images_are_not_worked_on() -> None:
    work = Recorder(held=True)
    executor = started(work)
    first = held_up(work, executor)
    second, third = executor.submit(np.array(1)), executor.submit(np.array(2))
    assert second.cancel()
    work.go.set()
    wait([first, third], 30)
    assert work.batches == [[0], [2]]
    executor.stop()


def test_stop_answers_what_waits() -> None:
    work = Recorder(held=True)
    executor = started(work, max_wait_s=20)
    futures = [executor.submit(np.array(i)) for i in range(9)]
    stopper = threading.Thread(target=executor.stop)
    stopper.start()
    work.go.set()
    stopper.join(30)
    assert [f.result(0) for f in futures] == [2 * i for i in range(9)]
    assert not executor.alive
    with pytest.raises(StoppedError):
        executor.submit(np.array(1))


def test_error_of_the_start() -> None:
    def broken() -> Recorder:
        raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        BatchExecutor(broken, 1, 0.0).start()
