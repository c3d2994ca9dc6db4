# SPDX-License-Identifier: Apache-2.0
"""Cells that are told of their graph's name when it changes, not at every call."""

from __future__ import annotations

from typing import Any

from mindspore import nn


class PhaseOnChange:
    """Mix-in before nn.Cell.

    Each call of a cell in graph mode sets ``compile_phase``, and nn.Cell passes it on to every cell below, in Python:
    four microseconds a cell, two milliseconds for a network of fifty layers. The name is read when a graph is compiled,
    which happens under a new name only, so the cells below need not hear the one that they had last.
    """

    @property
    def compile_phase(self) -> str | None:
        return self._compile_phase

    @compile_phase.setter
    def compile_phase(self, value: str) -> None:
        if value != self._compile_phase:
            nn.Cell.compile_phase.fset(self, value)


def stand_in_class(cls: type[nn.Cell], members: dict[str, Any]) -> type[nn.Cell]:
    """A subclass that goes by the name of `cls`, for a cell that is to get these members; it is a PhaseOnChange too."""
    own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**members, "compile_phase": PhaseOnChange.compile_phase, **own})
