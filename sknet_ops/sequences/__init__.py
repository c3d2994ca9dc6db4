# SPDX-License-Identifier: Apache-2.0
"""Parts of a network as one op each: what MindSpore spends on an op is spent once for all of them."""

from sknet_ops.sequences.cells import arrange, take_back

__all__ = ["arrange", "take_back"]
