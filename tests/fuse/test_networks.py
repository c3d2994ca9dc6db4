# SPDX-License-Identifier: Apache-2.0
"""fuse on many ways to write a network: what is taken, what is left, and that nothing else changes."""

from __future__ import annotations

import copy
import linecache

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import sknet_ops
from sknet_ops.fusion import FusionReport
from tests.fuse import networks
from tests.mindspore_tools import both_passes, randomise, relative, tensor


def fused_pair(cls: type[nn.Cell]) -> tuple[nn.Cell, nn.Cell, FusionReport]:
    plain, fused = cls(), cls()
    for net in (plain, fused):
        randomise(net, 6)
    returned, report = sknet_ops.fuse(fused, return_report=True)
    assert returned is fused
    return plain, fused, report


def assert_same(plain: nn.Cell, fused: nn.Cell, rng: np.random.Generator, training: bool) -> None:
    x = rng.standard_normal((3, 4, 6, 6))
    cotangent = rng.standard_normal(copy.deepcopy(plain)(tensor(x)).shape)
    expected, got = (both_passes(net.set_train(training), x, cotangent) for net in (plain, fused))
    assert list(got) == list(expected)
    for name, value in expected.items():
        if name.startswith("grad.") and np.abs(value).max() < 1e-4 and np.abs(got[name]).max() < 1e-4:
            continue  # a bias before a norm: zero but for rounding
        assert relative(got[name], value) < (2e-5 if name == "y" else 5e-4), name


@pytest.mark.parametrize("cls", networks.NETWORKS)
def test_report(cls: type[nn.Cell]) -> None:
    _, fused, report = fused_pair(cls)
    assert {entry.name: tuple(entry.replaces.split(", ")) for entry in report.swapped} == cls.swapped
    assert {entry.op for entry in report.swapped} <= {"conv_bn_act"}
    assert {entry.name for entry in report.left} == set(cls.left)
    for entry in report.left:
        assert cls.left[entry.name] in entry.reason
        assert entry.cell == "nn.Conv2d"
    assert sknet_ops.fuse.report(fused) is report
    assert str(report).startswith(f"{len(cls.swapped)} swapped, {len(cls.left)} left")


@pytest.mark.parametrize("cls", networks.NETWORKS)
def test_same_in_pynative(cls: type[nn.Cell], pynative_mode: None, rng: np.random.Generator) -> None:
    plain, fused, _ = fused_pair(cls)
    for training in (True, False):
        assert_same(plain, fused, rng, training)


@pytest.mark.parametrize("cls", [cls for cls in networks.NETWORKS if cls.swapped])
def test_same_in_graph_mode(cls: type[nn.Cell], graph_mode: None, rng: np.random.Generator) -> None:
    plain, fused, _ = fused_pair(cls)
    assert_same(plain, fused, rng, True)


@pytest.mark.parametrize("cls", networks.NETWORKS)
def test_structure_stays(cls: type[nn.Cell]) -> None:
    """The same cells under the same names, the same parameters with the same names in the same order."""
    net = cls()
    before = (
        [(name, id(cell)) for name, cell in net.cells_and_names()],
        [(name, id(p), p.name) for name, p in net.parameters_and_names()],
        [id(p) for p in net.trainable_params()],
        list(net.parameters_dict()),
    )
    sknet_ops.fuse(net)
    assert before == (
        [(name, id(cell)) for name, cell in net.cells_and_names()],
        [(name, id(p), p.name) for name, p in net.parameters_and_names()],
        [id(p) for p in net.trainable_params()],
        list(net.parameters_dict()),
    )
    assert isinstance(net, cls)
    assert type(net).__name__ == cls.__name__


def test_twice_is_once(mode: str, rng: np.random.Generator) -> None:
    plain, fused, first = fused_pair(networks.ResidualInPlace)
    _, second = sknet_ops.fuse(fused, return_report=True)
    assert not second.left
    assert len(second.swapped) == len(first.swapped)
    assert_same(plain, fused, rng, True)


def test_after_a_run(mode: str, rng: np.random.Generator) -> None:
    """A network that has run, and in graph mode has been compiled, takes its new form."""
    plain, fused = networks.ResidualInPlace(), networks.ResidualInPlace()
    x = tensor(rng.standard_normal((2, 4, 6, 6)))
    for net in (plain, fused):
        randomise(net, 6)
        net.set_train(False)(x)
    sknet_ops.fuse(fused)
    calls = []
    for run in fused.sknet_fused:
        run.construct = lambda *args, call=run.construct: calls.append(1) or call(*args)
    if mode == "pynative":
        fused(x)
        assert len(calls) == 2
    for run in fused.sknet_fused:
        del run.construct
    assert_same(plain, fused, rng, True)


def test_settings_of_the_norms_keep_their_say(mode: str, rng: np.random.Generator) -> None:
    """Freezing one norm after fuse, switching between training and evaluation."""
    plain, fused, _ = fused_pair(networks.ResidualInPlace)
    for net in (plain, fused):
        net.set_train()
        net.bn1.set_train(False)
        net.down_sample[1].use_batch_statistics = False
    x, cotangent = rng.standard_normal((3, 4, 6, 6)), rng.standard_normal((3, 4, 6, 6))
    expected, got = (both_passes(net, x, cotangent) for net in (plain, fused))
    assert not np.array_equal(got["bn2.moving_mean"], networks.ResidualInPlace().bn2.moving_mean.asnumpy())
    for name, value in expected.items():
        assert relative(got[name], value) < (2e-5 if name == "y" else 5e-4), name
    assert_same(plain, fused, rng, False)


def test_hooks_are_kept(pynative_mode: None, rng: np.random.Generator) -> None:
    net = networks.ResidualInPlace()
    seen = []
    net.bn1.register_forward_hook(lambda cell, args, out: seen.append("bn1"))
    net.register_forward_hook(lambda cell, args, out: seen.append("net"))
    _, report = sknet_ops.fuse(net, return_report=True)
    assert {entry.name: entry.reason for entry in report.left} == {
        "conv1": "nn.BatchNorm2d has a hook, which a fused op could not call"
    }
    net(tensor(rng.standard_normal((2, 4, 6, 6))))
    assert seen == ["bn1", "net"]


def test_half_precision_cells_are_left() -> None:
    net = networks.Statements()
    net.conv1.to_float(ms.float16)
    _, report = sknet_ops.fuse(net, return_report=True)
    assert [entry.reason for entry in report.left] == [
        "nn.Conv2d set to a half precision by to_float, expected float32"
    ]


def test_copies(mode: str, rng: np.random.Generator) -> None:
    """A deep copy of a fused network is fused, and has parameters of its own."""
    plain, fused, _ = fused_pair(networks.ResidualInPlace)
    copied = copy.deepcopy(fused)
    assert copied.sknet_fused[0].conv_holder is copied.conv1
    fused.conv1.weight.set_data(fused.conv1.weight * 2)
    assert_same(plain, copied, rng, True)


def test_cleared_linecache(graph_mode: None, rng: np.random.Generator) -> None:
    plain, fused, _ = fused_pair(networks.Statements)
    linecache.clearcache()
    assert_same(plain, fused, rng, True)


def test_one_class_for_equal_cells() -> None:
    nets = [sknet_ops.fuse(networks.Statements()) for _ in range(2)]
    assert type(nets[0]) is type(nets[1]) is not networks.Statements


class LooksAlike(nn.Cell):
    """Named as MindCV's layer, but another one."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.CellList([networks.conv()])
        self.attn = nn.ReLU()

    def construct(self, x):
        return self.attn(self.paths[0](x))


def test_another_selective_kernel() -> None:
    LooksAlike.__name__ = "SelectiveKernel"
    _, report = sknet_ops.fuse(nn.SequentialCell([LooksAlike()]), return_report=True)
    assert not report.swapped
    assert report.left[0].reason == "the construct of SelectiveKernel is not that of MindCV's layer"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((None,), "fuse: net: got NoneType, expected nn.Cell"),
        (([nn.ReLU()],), "fuse: net: got list, expected nn.Cell"),
        ((nn.Conv2d,), "fuse: net: got type, expected nn.Cell"),
        ((nn.ReLU(), 1), "fuse: return_report: got int, expected bool"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        sknet_ops.fuse(*arguments)


def test_report_of_an_unseen_network() -> None:
    with pytest.raises(
        ValueError, match=r"^fuse.report: net: got a network that fuse has not seen, expected fuse\(net\)"
    ):
        sknet_ops.fuse.report(nn.ReLU())
    with pytest.raises(TypeError, match="^fuse.report: net: got str, expected nn.Cell$"):
        sknet_ops.fuse.report("net")


def test_nothing_to_fuse() -> None:
    _, report = sknet_ops.fuse(nn.SequentialCell([nn.Dense(3, 3), nn.ReLU()]), return_report=True)
    assert (report.swapped, report.left) == ([], [])
