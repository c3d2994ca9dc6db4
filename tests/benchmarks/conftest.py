# SPDX-License-Identifier: Apache-2.0
from tests.mindspore_tools import mode  # noqa: F401
