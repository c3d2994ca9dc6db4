# SPDX-License-Identifier: Apache-2.0
"""The emulator bites: kernels with one deliberate fault each are caught, with a message that names the fault."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.ascend import emulator

SEEDS = range(50)
ELEMENTS = 8 * 256

# fault -> what the message has to say
VECTOR_FAULTS = {
    "missing EnQue": "DeQue: deadlock: the queue in UB is empty (EnQue missing?)",
    "missing DeQue": "hazard: Adds (PIPE_V) reads UB that DataCopy (PIPE_MTE2) writes",
    "missing FreeTensor": "AllocTensor: deadlock: all 2 buffers of the queue in UB are in use",
    "missing barrier": "hazard: Muls (PIPE_V) reads UB that Adds (PIPE_V) writes",
    "missing copy": "Adds: reads UB at byte 0, which nothing has written",
    "scalar read without a flag": "hazard: GetValue (PIPE_S) reads UB that Muls (PIPE_V) writes",
    "ub overflow": "InitBuffer: UB overflow",
    "buffer of an odd size": "InitBuffer: got 100 bytes in UB, expected a positive multiple of 32",
    "select without its scratch": "Select: UB overflow: this mode needs the last 8192 bytes",
    "misaligned copy": "DataCopy: misaligned: the local tensor starts at byte 12",
    "copy of an odd length": "DataCopy: misaligned: 12 bytes, expected a multiple of 32",
    "copy past its buffer": "DataCopy: dst ends 32 bytes past its buffer in UB",
    "misaligned operand": "Adds: misaligned: src starts at byte",
    "wrong repeat": "Add: repeatTime is 300, expected 0..255",
    "wrong mask": "Add: mask is 65, expected 1..64",
    "read out of range": "DataCopy: global access out of range: bytes 16352..17376 of 'x', which has 16384",
    "write out of range": "DataCopy: global access out of range: bytes 16352..17376 of 'y', which has 16384",
    "race between blocks": "race: DataCopy writes 'y' at byte 0, which another block of the same launch writes",
    "tensor never dequeued": "unbalanced queue in UB: a tensor was enqueued and never dequeued",
    "flag never waited for": "SetFlag<PIPE_V to PIPE_MTE2>(0) has no WaitFlag",
    "flag set twice": "SetFlag: the flag from PIPE_V is set already",
    "flag never set": "WaitFlag: deadlock: PIPE_MTE2 waits for a flag that nothing sets",
    "event id out of range": "SetFlag: event id 8, expected 0..7",
    "cube instruction on a vector core": "DataCopy(Nd2Nz): is of the cube core, the kernel runs on the vector core",
    "an instruction that is not implemented": "Cast: round mode 2 from 4 to 2 bytes is not implemented",
}
CUBE_FAULTS = {
    "l0a overflow": "InitBuffer: L0A overflow",
    "l0b overflow": "InitBuffer: L0B overflow",
    "l0c overflow": "InitBuffer: L0C overflow",
    "l1 overflow": "InitBuffer: L1 overflow",
    "row stride out of range": "DataCopy(Nd2Nz): srcDValue is 70000, expected 1..65535",
    "misaligned fractal": "LoadData(2D): misaligned: dst starts at byte 32, expected a multiple of 512",
    "sums without a barrier": "hazard: Mmad (PIPE_M) reads L0C that Mmad (PIPE_M) writes",
    "one row": "Mmad: m = 1 makes this a vector-matrix product",
    "fixpipe of 8 columns": "Fixpipe: nSize 8, expected a multiple of 16",
    "vector instruction on a cube core": "Adds: is of the vector core, the kernel runs on the cube core",
}


def vector(fault: str, seed: int = 0, check_hazards: bool = True) -> tuple[str, np.ndarray, np.ndarray]:
    """The fault that was reported, x, y."""
    blocks = 2
    x = np.random.default_rng(1).normal(size=blocks * ELEMENTS).astype(np.float32)
    y = np.full_like(x, np.nan)
    error = ctypes.create_string_buffer(2048)
    emulator.broken_kernels().vector_kernel(
        fault.encode(), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), blocks,
        ctypes.c_uint64(seed), int(check_hazards), error, len(error),
    )  # fmt: skip
    return error.value.decode(), x, y


def cube(fault: str, seed: int = 0, check_hazards: bool = True) -> tuple[str, np.ndarray, np.ndarray]:
    """The fault that was reported, the expected y, y."""
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=(16, 32)).astype(np.float16) for _ in range(2))
    y = np.full((16, 16), np.nan, np.float32)
    error = ctypes.create_string_buffer(2048)
    emulator.broken_kernels().cube_kernel(
        fault.encode(), *(ctypes.c_void_p(a.ctypes.data) for a in (x, w, y)), ctypes.c_uint64(seed),
        int(check_hazards), error, len(error),
    )  # fmt: skip
    return error.value.decode(), x.astype(float) @ w.astype(float).T, y


@pytest.mark.parametrize("seed", SEEDS)
def test_sound_kernels_pass(seed: int) -> None:
    error, x, y = vector("", seed)
    assert error == ""
    np.testing.assert_allclose(y, (x + 1) * 2, rtol=1e-6)
    error, expected, y = cube("", seed)
    assert error == ""
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", VECTOR_FAULTS)
def test_vector_fault_is_named(fault: str) -> None:
    error, _, _ = vector(fault)
    assert VECTOR_FAULTS[fault] in error
    assert "seed 0" in error


@pytest.mark.parametrize("fault", CUBE_FAULTS)
def test_cube_fault_is_named(fault: str) -> None:
    error, _, _ = cube(fault)
    assert CUBE_FAULTS[fault] in error


@pytest.mark.parametrize("fault", ["missing barrier", "scalar read without a flag", "sums without a barrier"])
def test_hazards_are_found_whatever_the_schedule(fault: str) -> None:
    run = cube if fault in CUBE_FAULTS else vector
    assert all("hazard" in run(fault, seed)[0] for seed in SEEDS)


def test_schedules_alone_show_wrong_numbers() -> None:
    """Without the check the order of execution is what a fault changes: some seeds must differ from the truth."""
    wrong = 0
    for seed in SEEDS:
        error, x, y = vector("missing barrier", seed, check_hazards=False)
        assert error == ""
        wrong += not np.allclose(y, (x + 1) * 2, rtol=1e-4, atol=1e-4)
    assert wrong > 0


def test_a_seed_repeats_its_schedule() -> None:
    first = [vector("missing barrier", seed, check_hazards=False)[2] for seed in SEEDS]
    again = [vector("missing barrier", seed, check_hazards=False)[2] for seed in SEEDS]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
