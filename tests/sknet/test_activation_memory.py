# SPDX-License-Identifier: Apache-2.0
"""Activation memory of `sknet info`, counted by hand for a small network."""

from sknet.macs import activation_memory, count_layers
from sknet.models.catalog import get_spec


def test_sknet_tiny() -> None:
    kept, largest = activation_memory(count_layers(get_spec("sknet_tiny"), (8, 8), 10), (3, 8, 8))
    image, stage1, stage2, stage3 = 3 * 64, 16 * 64, 32 * 16, 64 * 4
    # Stem; then a block a stage: SK unit (two raw maps and its output), convolution, shortcut's from stage 2 on.
    expected = image + 2 * stage1 + 5 * stage1 + 7 * stage2 + 7 * stage3 + 10
    assert kept == 4 * expected
    assert largest == 4 * 3 * stage1  # the first block's second convolution: input, output, shortcut


def test_info_tells_it(capsys) -> None:
    from sknet.cli import main

    assert main(["info", "sknet50"]) == 0
    assert "MB an image kept in training" in capsys.readouterr().out
