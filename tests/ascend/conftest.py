# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that go through MindSpore."""

from tests.mindspore_tools import mode  # noqa: F401
