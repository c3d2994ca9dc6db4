# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the native code."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def automatic_threads(native: ModuleType) -> Iterator[None]:
    """No test leaves its number of threads behind."""
    yield
    native.set_num_threads(0)
