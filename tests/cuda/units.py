# SPDX-License-Identifier: Apache-2.0
"""Units for what turns maps between NCHW and channels last; the emulator's tests and the proof on a GPU take them."""

from __future__ import annotations

from tests.cases import SkConvCase

# What is turned between NCHW and channels last: chunks that end in the map, tiles of few and many channels, packs and
# single channels, more branches than are taken together. With two images the hidden layer has no gradient but noise.
UNITS = [
    SkConvCase("wide", 4, 16, (6, 70), 16, groups=4, op="selective_kernel"),
    SkConvCase("64 channels", 3, 64, (13, 11), 64, groups=4, op="selective_kernel"),
    SkConvCase("36 channels strided", 4, 36, (9, 8), 36, groups=9, stride=2, op="selective_kernel"),
    SkConvCase("three branches", 4, 12, (12, 11), 12, (3, 3, 1), (1, 2, 1), groups=3, op="selective_kernel"),
    SkConvCase("6 channels", 4, 6, (7, 5), 6, groups=2, op="selective_kernel"),
    SkConvCase("16 channels a group", 3, 32, (7, 7), 32, groups=2, op="selective_kernel"),
]
# More chunks of positions than a block of the select kernel has splits for, on the GPUs that there are: a block turns
# several. A second for a GPU, minutes for the emulator.
LONG = SkConvCase("many images", 256, 32, (32, 33), 32, groups=8, op="selective_kernel")
# Blocks that walk several images on tensor cores, on a GPU of 132 multiprocessors, too: they meet each barrier again.
WALKS = [
    SkConvCase(f"{c} channels a group in 300 images", 300, 2 * c, (7, 7), 2 * c, groups=2, op="selective_kernel")
    for c in (16, 32)
]
