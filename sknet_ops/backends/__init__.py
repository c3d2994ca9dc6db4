# SPDX-License-Identifier: Apache-2.0
"""Choosing what runs the ops.

Each backend is one file with a name, a line about itself and one predicate, ``why_not()``: None if it can run here,
else the reason. The chooser takes the one that SKNET_OPS_BACKEND names (``cpu`` if unset) and falls back to none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sknet_ops import binary
from sknet_ops.backends import akg, ascend, cpu, cuda, reference
from sknet_ops.checks import FLOAT32

_BACKENDS: tuple[ModuleType, ...] = (cpu, reference, ascend, akg, cuda)
_log = logging.getLogger("sknet_ops")


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for cannot run here; the message says why."""


@dataclass(frozen=True)
class Backend:
    """One line of :func:`available_backends`: ``reason`` is None exactly if it is available."""

    name: str
    about: str
    reason: str | None

    @property
    def available(self) -> bool:
        return self.reason is None

    def __str__(self) -> str:
        return f"{self.name}: {self.about}" + ("" if self.available else f" (not available: {self.reason})")


def available_backends() -> tuple[Backend, ...]:
    """Every backend, with the reason for each that cannot run here."""
    return tuple(Backend(module.NAME, module.ABOUT, module.why_not()) for module in _BACKENDS)


def active_backend() -> str:
    """Name of the backend that runs the next op: SKNET_OPS_BACKEND, or ``cpu``.

    Raises:
        ValueError: If SKNET_OPS_BACKEND names no backend.
        BinaryMissingError: If it needs the native library, and that has not been built.
        BackendUnavailableError: If it cannot run here for another reason.
    """
    name = os.environ.get("SKNET_OPS_BACKEND") or cpu.NAME
    for module in _BACKENDS:
        if name == module.NAME:
            reason = module.why_not()
            if reason is not None and reason == binary.why_not():
                raise binary.BinaryMissingError(reason)
            if reason is not None:
                raise BackendUnavailableError(f"backend {name} cannot run here: {reason}")
            return name
    names = ", ".join(module.NAME for module in _BACKENDS)
    raise ValueError(f"SKNET_OPS_BACKEND: got {name!r}, expected one of {names}")


def map_dtypes() -> tuple:
    """Types of maps and convolution weights that the chosen backend takes."""
    asked = os.environ.get("SKNET_OPS_BACKEND")
    return next((getattr(module, "MAP_DTYPES", FLOAT32) for module in _BACKENDS if asked == module.NAME), FLOAT32)


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable | None:
    """What the chosen backend computes `op` with: called with the op's inputs, it returns the tuple of its outputs.

    None if that is a native library's primitive.
    """
    asked = os.environ.get("SKNET_OPS_BACKEND")
    make = next((getattr(module, "primitive", None) for module in _BACKENDS if asked == module.NAME), None)
    if make is None:
        return None
    active_backend()  # raises with the reason if it cannot run
    made = make(op, attrs)
    if made is not None:
        log_choice(op, ", ".join(f"{key}={value}" for key, value in attrs.items()))
    return made


def library_path(op: str) -> Path:
    """The native library in which the active backend has the C entry `op`.

    Raises:
        BinaryMissingError: If it has not been built.
        BackendUnavailableError: If the backend has no such op.
    """
    if os.environ.get("SKNET_OPS_BACKEND") != cuda.NAME:
        return binary.library_path()
    active_backend()  # raises with the reason if it cannot run
    if not cuda.has(op):
        raise BackendUnavailableError(
            f"{op}: not an op of backend cuda: on a GPU plain convolutions and pooling are cuDNN's"
        )
    return cuda.library_path()


def log_choice(op: str, attrs: str) -> None:
    """Notes once per primitive what will run it; on stderr if SKNET_OPS_VERBOSE=1."""
    backend = active_backend()
    detail = f", {cpu.isa()}" if backend == cpu.NAME else ""
    asked = "SKNET_OPS_BACKEND" if os.environ.get("SKNET_OPS_BACKEND") else "the default"
    message = f"{op}({attrs}): backend {backend}{detail}, by {asked}"
    _log.info(message)
    if os.environ.get("SKNET_OPS_VERBOSE") == "1":
        print(f"sknet_ops: {message}", file=sys.stderr)
