# SPDX-License-Identifier: Apache-2.0
"""Fixtures of these tests."""

from tests.mindspore_tools import graph_mode, mode, pynative_mode  # noqa: F401
