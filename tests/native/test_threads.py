# SPDX-License-Identifier: Apache-2.0
"""Results do not depend on the number of threads; what sets the number; calls from several threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import ALL, AttentionCase, ConvCase, SkConvCase, both_passes, make_example, modes

# Larger than the others, so that there is work for three threads; and every small one, where there may be none.
LARGE = [
    ConvCase("many images", 7, 16, (13, 13), 33),
    ConvCase("one large image", 1, 24, (29, 31), 24, groups=3, residual=True),
    SkConvCase("many groups", 5, 64, (14, 14), 64, groups=16),
    AttentionCase("many images", 9, 130, (7, 7), 2, 32),
    SkConvCase("whole large layer", 5, 32, (14, 13), 64, split_input=True, op="selective_kernel"),
]


@pytest.mark.parametrize("case, training", modes([*LARGE, *ALL]))
def test_same_bits(case: Any, training: bool, isa: str, native: ModuleType) -> None:
    # The margin is of no interest: one kernel is compared with itself.
    example = make_example(case, native, training, margin=-1)
    native.set_num_threads(1)
    expected = both_passes(native, example, training, np.float32, isa=isa)
    for threads in (2, 3):
        native.set_num_threads(threads)
        for mine, theirs in zip(both_passes(native, example, training, np.float32, isa=isa), expected, strict=True):
            for name, array in theirs.items():
                assert np.array_equal(mine[name], array), f"{name} differs with {threads} threads"


def test_images_at_a_time_do_not_show(isa: str, native: ModuleType) -> None:
    """More threads take more images of a layer at a time; how an image is convolved must not hang on it."""
    rng = np.random.default_rng(0)
    c, groups = 1024, 32
    tensors = {
        "x": rng.standard_normal((14, c, 7, 7), np.float32),
        "weight": [rng.standard_normal((c, c // groups, 3, 3), np.float32) for _ in range(2)],
        "fc_reduce": rng.standard_normal((16, c), np.float32),
        "fc_select": rng.standard_normal((2 * c, 16), np.float32),
    }
    for name, value in (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0)):
        tensors[name] = [np.full(c, value, np.float32)] * 2
        tensors["attn_" + name] = np.full(16, value, np.float32)
    found = []
    for threads in (1, 2, 8):
        native.set_num_threads(threads)
        made = native.selective_kernel(**tensors, padding=[1, 2], dilation=[1, 2], groups=groups, isa=isa)
        found.append(made["y"])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_set_num_threads(native: ModuleType) -> None:
    automatic = native.num_threads()
    native.set_num_threads(3)
    assert native.num_threads() == 3
    native.set_num_threads(0)
    assert native.num_threads() == automatic


NUM_THREADS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("sknet_ops._native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
print(native.num_threads())
"""


def _num_threads(native: ModuleType, omp_num_threads: str | None) -> int:
    """The automatic choice of a fresh process: in this one, MindSpore may have set OMP_NUM_THREADS itself."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if omp_num_threads is not None:
        environment["OMP_NUM_THREADS"] = omp_num_threads
    command = [sys.executable, "-c", NUM_THREADS, native.__file__]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("text, limited", [("1", True), ("1,2", True), ("1000", False), ("zero", False), ("0", False)])
def test_omp_num_threads(native: ModuleType, text: str, limited: bool) -> None:
    most = _num_threads(native, None)
    assert 1 <= most <= len(os.sched_getaffinity(0))
    assert _num_threads(native, text) == (1 if limited else most)


def test_affinity(native: ModuleType) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert native.num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def _example(native: ModuleType) -> tuple[Any, Any]:
    example = make_example(LARGE[2], native, training=True, margin=-1)
    return example, both_passes(native, example, True, np.float32)


def _same(mine: Any, theirs: Any) -> bool:
    return all(np.array_equal(a[name], b[name]) for a, b in zip(mine, theirs, strict=True) for name in b)


def test_calls_from_several_threads(native: ModuleType) -> None:
    example, expected = _example(native)
    native.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(both_passes, native, example, True, np.float32) for _ in range(40)]
        assert all(_same(call.result(), expected) for call in calls)


def test_interpreter_runs_meanwhile(native: ModuleType) -> None:
    """The interpreter's lock is released while a kernel runs."""
    x = np.ones((8, 32, 48, 48), np.float32)
    weight = np.ones((32, 32, 3, 3), np.float32)
    norm = [np.ones(32, np.float32)] * 4
    call = threading.Thread(target=native.conv_bn_act, args=(x, weight, *norm), kwargs={"backend": "reference"})
    call.start()
    ticks = 0
    while call.is_alive():
        time.sleep(1e-3)
        ticks += 1
    assert ticks >= 10


def test_after_fork(native: ModuleType) -> None:
    """A forked process, as data loaders make them, has lost the pool's threads and gets its own."""
    example, expected = _example(native)
    native.set_num_threads(2)
    assert _same(both_passes(native, example, True, np.float32), expected)  # the pool runs

    def child() -> None:
        os._exit(0 if _same(both_passes(native, example, True, np.float32), expected) else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(timeout=60)
    if process.is_alive():
        process.kill()
        pytest.fail("the forked process hangs")
    assert process.exitcode == 0
