# SPDX-License-Identifier: Apache-2.0
"""The native library: where it is, and what it says about itself."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent
LIBRARY = PACKAGE_DIR / "lib" / "libsknet_ops.so"

_STRINGS = ("sknet_ops_active_backend", "sknet_ops_active_isa", "sknet_ops_isa_name", "sknet_ops_why_not")


class BinaryMissingError(ImportError):
    """The native library has not been built, or cannot be loaded."""


def why_not() -> str | None:
    """None if the native library can be loaded, else the reason and what to do about it."""
    try:
        library()
    except BinaryMissingError as error:
        return str(error)
    return None


def library_path() -> Path:
    """Path of ``libsknet_ops.so``.

    Raises:
        BinaryMissingError: If the library has not been built.
    """
    if not LIBRARY.is_file():
        raise BinaryMissingError(
            f"sknet_ops: the native library {LIBRARY} is missing: build it with `pip install .` or `pip install -e .` "
            "in the root of the source tree (it needs a C++17 compiler and libgomp1)"
        )
    return LIBRARY


def library() -> ctypes.CDLL:
    """The loaded library, for its C questions (csrc/bindings/c_api.cc)."""
    return _load(library_path())


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise BinaryMissingError(
            f"sknet_ops: the native library {path} does not load ({error}): build it anew with `pip install .`"
        ) from error
    for name in _STRINGS:
        getattr(loaded, name).restype = ctypes.c_char_p
    # MindSpore sets OMP_NUM_THREADS=1 behind Python's back where it is unset; os.environ still shows the user's wish.
    loaded.sknet_ops_ignore_omp_num_threads("OMP_NUM_THREADS" not in os.environ)
    return loaded


def _ask(question: str) -> str:
    error = ctypes.c_char_p()
    answer = getattr(library(), question)(ctypes.byref(error))
    if answer is None:
        raise ValueError(f"sknet_ops: {error.value.decode()}")
    return answer.decode()


def native_backend() -> str:
    """The backend that the native library takes for the next call: ``"cpu"`` or ``"reference"``.

    Raises:
        ValueError: If SKNET_OPS_BACKEND names something else.
    """
    return _ask("sknet_ops_active_backend")


def active_isa() -> str:
    """Instruction set of the kernels that the next call takes: ``"scalar"``, ``"avx2"``, ``"avx512"``, ``"amx"`` or
    ``"neon"``.

    Raises:
        ValueError: If SKNET_OPS_ISA names one that cannot run here; the message lists those that can.
    """
    return _ask("sknet_ops_active_isa")


def instruction_sets() -> dict[str, str | None]:
    """Every instruction set that the library knows: None if it can run here, else why not."""
    found: dict[str, str | None] = {}
    while (name := library().sknet_ops_isa_name(len(found))) is not None:
        reason = library().sknet_ops_why_not(len(found))
        found[name.decode()] = reason.decode() if reason else None
    return found


def num_threads() -> int:
    """Threads that the next call uses: the least of OMP_NUM_THREADS, CPU affinity and the container's CPU limit."""
    return library().sknet_ops_num_threads()


def set_num_threads(threads: int) -> None:
    """Sets the number of threads; 0 returns to the automatic choice. Results do not depend on it.

    Raises:
        TypeError: If `threads` is not an int.
        ValueError: If `threads` is negative or above 1024.
    """
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"set_num_threads: threads: got {type(threads).__name__}, expected int")
    if not 0 <= threads <= 1024:
        raise ValueError(f"set_num_threads: threads: got {threads}, expected 0..1024")
    library().sknet_ops_set_num_threads(threads)
