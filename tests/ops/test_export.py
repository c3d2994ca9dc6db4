# SPDX-License-Identifier: Apache-2.0
"""MindIR: written with an unknown batch size, read back in a process that never saw the layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from sknet_ops.layers import ConvBnAct, SelectiveKernel
from tests.mindspore_tools import randomise, tensor

RELOAD = """
import sys
import mindspore as ms, numpy as np
from mindspore import nn
folder = sys.argv[1]
ms.set_context(mode=ms.GRAPH_MODE)
net = nn.GraphCell(ms.load(folder + "/net.mindir"))
for name in sys.argv[2:]:
    np.save(f"{folder}/y{name}.npy", net(ms.Tensor(np.load(f"{folder}/x{name}.npy"))).asnumpy())
"""


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(nn.Conv2d(3, 8, 3, 2, pad_mode="pad", padding=1), nn.BatchNorm2d(8), nn.ReLU)
        self.unit = SelectiveKernel(8, 16, groups=2, stride=2)

    def construct(self, x: Tensor) -> Tensor:
        return self.unit(self.stem(x))


@pytest.mark.parametrize("batch", [None, 2], ids=["dynamic", "static"])
def test_mindir(batch: int | None, tmp_path: Path, graph_mode: None, rng: np.random.Generator) -> None:
    net = Net()
    randomise(net, 2)
    net.set_train(False)
    example = (
        Tensor(shape=[batch, 3, 16, 16], dtype=ms.float32) if batch is None else tensor(np.ones((batch, 3, 16, 16)))
    )
    ms.export(net, example, file_name=str(tmp_path / "net"), file_format="MINDIR")
    sizes = [1, 5, 2] if batch is None else [2]
    expected = {}
    for n in sizes:
        x = rng.standard_normal((n, 3, 16, 16)).astype(np.float32)
        np.save(tmp_path / f"x{n}.npy", x)
        expected[n] = net(tensor(x)).asnumpy()
    command = [sys.executable, "-c", RELOAD, str(tmp_path), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for n in sizes:
        assert np.array_equal(np.load(tmp_path / f"y{n}.npy"), expected[n])
