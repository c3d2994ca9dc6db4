# SPDX-License-Identifier: Apache-2.0
"""Swapping the cells of an existing network for fused ones."""

from sknet_ops.fusion.fuse import fuse
from sknet_ops.fusion.report import FusionReport, report

# `sknet_ops.fuse.report(net)` reads as it is used.
fuse.report = report

__all__ = ["FusionReport", "fuse", "report"]
