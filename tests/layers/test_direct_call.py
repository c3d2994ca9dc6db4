# SPDX-License-Identifier: Apache-2.0
"""Frozen cells with constants, called without MindSpore's executor: same bits, and when it is called after all."""

from __future__ import annotations

import copy
import ctypes
import gc
import subprocess
import sys
import threading

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.common import initializer

import sknet_ops
from sknet_ops import binary
from sknet_ops.layers import SelectiveKernel
from sknet_ops.sequences import direct
from tests.layers.test_sequences import Doubles, Net, images, seeded


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    return request.param


@pytest.fixture
def direct_calls(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs of all direct calls since."""
    seen: list[tuple[int, ...]] = []
    run = direct.DirectCall.run

    def noting(self, x):
        seen.append(tuple(x.shape))
        return run(self, x)

    monkeypatch.setattr(direct.DirectCall, "run", noting)
    return seen


def layer() -> SelectiveKernel:
    return SelectiveKernel(16, 32, stride=2, groups=4, split_input=False)


def maps(n: int, size: int = 13) -> ms.Tensor:
    return ms.Tensor(np.random.default_rng(n).standard_normal((n, 16, size, size), np.float32))


def by_mindspore(net: nn.Cell, x: ms.Tensor, monkeypatch) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(direct, "why_not", lambda: "a test")
        return net(x).asnumpy()


def test_it_can_be_done_here() -> None:
    assert direct.why_not() is None


@pytest.mark.parametrize("make, of", [(Net, images), (layer, maps)], ids=["network", "layer"])
def test_same_bits(mode, make, of, direct_calls, monkeypatch) -> None:
    net = sknet_ops.freeze(seeded(make), constant=True)
    for n in (1, 3, 1, 11):
        x = of(n)
        for _ in range(2):
            got = net(x)
            assert isinstance(got, ms.Tensor) and got.dtype == ms.float32
            count = len(direct_calls)
            assert np.array_equal(got.asnumpy(), by_mindspore(net, x, monkeypatch))
            assert len(direct_calls) == count
    assert [shape[0] for shape in direct_calls] == [1, 1, 3, 3, 1, 1, 11, 11]


def test_below_another_cell(mode, direct_calls, monkeypatch) -> None:
    """In graph mode the graph has the op."""
    net = sknet_ops.freeze(seeded(Doubles), constant=True)
    got = net(images(2)).asnumpy()
    assert len(direct_calls) == (mode == ms.PYNATIVE_MODE)
    assert np.array_equal(got, by_mindspore(net, images(2), monkeypatch))


def test_in_a_jit_function(mode, direct_calls) -> None:
    net = sknet_ops.freeze(seeded(Net), constant=True)

    @ms.jit
    def twice(x):
        return net(x) * 2

    assert np.array_equal(twice(images(2)).asnumpy(), net(images(2)).asnumpy() * 2)
    assert len(direct_calls) == 1


CAPTURED = """
import mindspore as ms, numpy as np, sknet_ops
ms.set_context(mode=ms.PYNATIVE_MODE)
ms.set_seed(1)
net = sknet_ops.SelectiveKernel(16, 32, split_input=False).set_train(False)
net = sknet_ops.freeze(net, constant=True)

def through_net(images):
    return net(images) * 2

for capture in ("ast", "bytecode", "trace"):
    twice = ms.jit(through_net, capture_mode=capture)
    for seed in range(3):
        x = ms.Tensor(np.random.default_rng(seed).standard_normal((2, 16, 13, 13), np.float32))
        assert np.array_equal(twice(x).asnumpy(), through_net(x).asnumpy()), (capture, seed)
"""


def test_in_captured_functions(tmp_path) -> None:
    """A trace must not take the first result for a constant. In a process of its own: one that fails goes on."""
    script = tmp_path / "captured.py"
    script.write_text(CAPTURED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_results_are_tensors_like_others(mode) -> None:
    net = sknet_ops.freeze(seeded(layer), constant=True)
    first = net(maps(1))
    kept = first.asnumpy().copy()
    second = net(maps(2))
    assert np.array_equal(first.asnumpy(), kept)  # no memory that the next call writes to
    total = ops.relu(first) + second.sum(0, keepdims=True)
    expected = np.maximum(kept, 0) + second.asnumpy().sum(0, keepdims=True)
    assert np.abs(total.asnumpy() - expected).max() < 1e-5


def test_strided_input_and_pending_input(mode, direct_calls) -> None:
    net = sknet_ops.freeze(seeded(layer), constant=True)
    x = maps(2)
    expected = net(x).asnumpy()
    turned = ms.Tensor(np.ascontiguousarray(x.asnumpy().transpose(0, 1, 3, 2)))
    for same in (turned.transpose(0, 1, 3, 2), ops.concat((x, x))[:2], ms.Parameter(x), x * 1):
        assert np.array_equal(net(same).asnumpy(), expected)
    assert len(direct_calls) == 5


def test_no_gradient(direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    with pytest.raises(ValueError, match=r"op_sequence: no gradient after freeze\(constant=True\): unfreeze"):
        ms.grad(lambda x: net(x).sum())(maps(1))
    assert not direct_calls
    net(maps(1))
    assert len(direct_calls) == 1


def test_training_and_hooks_go_cell_by_cell(direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net, plain = sknet_ops.freeze(seeded(Net), constant=True), seeded(Net)
    net(images(2))
    seen = []
    hook = net.stages[0].register_forward_hook(lambda cell, inputs, output: seen.append(output.shape))
    assert np.array_equal(net(images(2)).asnumpy(), plain(images(2)).asnumpy())
    assert seen == [(2, 16, 20, 20)] and len(direct_calls) == 1
    hook.remove()
    net(images(2))
    assert len(direct_calls) == 2
    for each in (net, plain):
        each.stem.norm_holder.set_train()
    assert np.array_equal(net(images(4)).asnumpy(), plain(images(4)).asnumpy())
    for each in (net, plain):
        each.set_train(False)
    assert np.array_equal(net(images(2)).asnumpy(), plain(images(2)).asnumpy())  # no longer with the old constants
    assert len(direct_calls) == 2
    sknet_ops.freeze(net, constant=True)(images(2))
    assert len(direct_calls) == 3


def test_batch_statistics_after_all(direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net, plain = seeded(layer), seeded(layer)
    sknet_ops.freeze(net, constant=True)(maps(2))
    for each in (net, plain):
        for norm in (*each.norm_holders, each.attn.bn):
            norm.use_batch_statistics = True
    assert np.array_equal(net(maps(2)).asnumpy(), plain(maps(2)).asnumpy())
    assert len(direct_calls) == 1


@pytest.mark.parametrize(
    "wrong, error",
    [
        (lambda: ms.Tensor(np.ones((1, 15, 9, 9), np.float32)), ValueError),
        (lambda: ms.Tensor(np.ones((16, 9, 9), np.float32)), ValueError),
        (lambda: ms.Tensor(np.ones((1, 16, 9, 9), np.float64)), TypeError),
        (lambda: np.ones((1, 16, 9, 9), np.float32), TypeError),
        (lambda: None, TypeError),
    ],
)
def test_bad_input_gets_the_layer_s_own_error(wrong, error, direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    with pytest.raises(error):
        net(wrong())
    assert not direct_calls


def test_no_images(mode, direct_calls) -> None:
    net = sknet_ops.freeze(seeded(layer), constant=True)
    assert net(ms.Tensor(np.empty((0, 16, 8, 8), np.float32))).shape == (0, 32, 4, 4)
    assert not direct_calls


def test_other_weights(direct_calls) -> None:
    """Whoever changes them, even while that is still being computed."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    net(maps(1))
    weight = net.paths[1].features[0].weight
    ops.assign(weight, ops.matmul(ops.ones((2000, 2000)), ops.ones((2000, 2000)))[0, 0] * weight)
    with pytest.raises(RuntimeError, match=r"input 2: got other weights than freeze\(constant=True\) has seen"):
        net(maps(1))
    expected = sknet_ops.unfreeze(copy.deepcopy(net))(maps(1)).asnumpy()
    got = sknet_ops.freeze(net, constant=True)(maps(1)).asnumpy()
    assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


def test_weights_without_memory_of_their_own(direct_calls, monkeypatch) -> None:
    """Views, of one value or turned: their memory is not what their shape says."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(lambda: SelectiveKernel(32, 32, groups=2, split_input=False)), constant=True)
    x = ms.Tensor(np.random.default_rng(0).standard_normal((1, 32, 9, 9), np.float32))
    expected = net(x).asnumpy()
    weight = net.paths[0].features[0].weight
    before = weight.asnumpy().copy()
    weight.set_data(ops.broadcast_to(ms.Tensor([[[[0.01]]]], ms.float32), weight.shape))
    with pytest.raises(RuntimeError, match="got other weights"):
        net(x).asnumpy()
    turned = np.ascontiguousarray(before.transpose(0, 1, 3, 2))
    weight.set_data(ms.Tensor(turned).transpose(0, 1, 3, 2))  # the same values
    assert np.array_equal(net(x).asnumpy(), expected)
    assert len(direct_calls) == 1


def test_input_that_is_not_there_yet(direct_calls) -> None:
    """Of an initializer that has not run."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    x = ms.Tensor(shape=(2, 16, 13, 13), dtype=ms.float32, init=initializer.One())
    expected = net(ops.ones((2, 16, 13, 13))).asnumpy()
    assert np.array_equal(net(x).asnumpy(), expected)
    again = ms.Tensor(ms.Tensor(shape=(2, 16, 13, 13), dtype=ms.float32, init=initializer.One()))
    assert not again.has_init and again.data_ptr() == 0
    assert net(again).asnumpy().shape == expected.shape  # whatever MindSpore takes its values for
    assert len(direct_calls) == 3


def test_import_is_silent() -> None:
    code = "import mindspore, sys; print('--', file=sys.stderr); import sknet_ops"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr.split("--")[-1].strip() == ""


def test_exit_while_a_daemon_calls() -> None:
    """The C entry alone: a daemon thread inside MindSpore's own `asnumpy` aborts at exit, whoever calls it."""
    code = """
import threading, mindspore as ms, numpy as np, sknet_ops
net = sknet_ops.freeze(sknet_ops.SelectiveKernel(64, 64, split_input=False).set_train(False), constant=True)
x = ms.Tensor(np.ones((4, 64, 56, 56), np.float32))
net(x)
call, seen, inside = net.sknet_direct._call, [], threading.Event()
net.sknet_direct._call = lambda *arguments: seen.append(arguments) or call(*arguments)
y = net(x)
def work(net, x, y, arguments):
    while True:
        assert call(*arguments) == 0
        inside.set()
threading.Thread(target=work, args=(net, x, y, seen[0]), daemon=True).start()
inside.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_of_another_type(direct_calls) -> None:
    """Their memory is half as large now: nothing may read it as if it were not."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    net(maps(1))
    net.paths[0].features[0].weight.set_dtype(ms.float16)
    with pytest.raises((TypeError, RuntimeError)):
        net(maps(1)).asnumpy()
    assert len(direct_calls) == 1


def test_other_backend(monkeypatch, direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    expected = net(maps(1)).asnumpy()
    monkeypatch.setenv("SKNET_OPS_BACKEND", "reference")
    got = net(maps(1)).asnumpy()
    assert len(direct_calls) == 1
    assert np.abs(got - expected).max() < 1e-5


def test_copies_and_unfrozen(direct_calls) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(Net), constant=True)
    expected = net(images(1)).asnumpy()
    twin = copy.deepcopy(net)
    for parameter in net.trainable_params():
        parameter.set_data(parameter * 0)
    assert np.array_equal(twin(images(1)).asnumpy(), expected)
    assert len(direct_calls) == 2
    plain = sknet_ops.unfreeze(twin)(images(1)).asnumpy()
    assert np.abs(plain - expected).max() <= 2e-6 * np.abs(expected).max()
    assert type(twin) is Net and len(direct_calls) == 2 and not hasattr(twin, "sknet_direct")


def test_profile_sees_the_steps(mode, direct_calls) -> None:
    net = sknet_ops.freeze(seeded(Net), constant=True)
    found = sknet_ops.profile(net, images(1), runs=3)
    assert direct_calls
    assert {op.op for op in found.ops} == {"conv_bn_act", "max_pool", "selective_kernel", "pool_dense"}


def test_many_shapes(direct_calls) -> None:
    """What is kept of each is given up in time."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(layer), constant=True)
    for size in range(1, 80):
        assert net(maps(1, size)).shape == (1, 32, (size + 1) // 2, (size + 1) // 2)
    assert len(direct_calls) == 79
    assert len(net.sknet_direct._layouts) < 79


def test_several_threads(mode) -> None:
    nets = [sknet_ops.freeze(seeded(make), constant=True) for make in (Net, layer)]
    inputs = [images(2), maps(5)]
    expected = [net(x).asnumpy() for net, x in zip(nets, inputs, strict=True)]
    wrong = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(nets[index % 2](inputs[index % 2]).asnumpy(), expected[index % 2]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_native_memory_goes_with_the_cell(monkeypatch) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    freed = []
    free = binary.library().sknet_ops_sequence_free
    monkeypatch.setattr(binary.library(), "sknet_ops_sequence_free", lambda sequence: freed.append(free(sequence)))
    net = sknet_ops.freeze(seeded(layer), constant=True)
    net(maps(1))
    assert not freed
    sknet_ops.unfreeze(net)
    gc.collect()
    assert len(freed) == 1


def test_native_errors() -> None:
    with pytest.raises(RuntimeError, match="op_sequence: attribute steps: got none, expected one"):
        direct._native_sequence({"inputs": 1, "operands": (0,)})
    with pytest.raises(RuntimeError, match="got nothing, expected conv_bn_act"):
        direct._native_sequence({"inputs": 1, "steps": "nothing", "operands": (0,)})
    pool = {"inputs": 1, "steps": "max_pool", "operands": (0,), "0.kernel": 2, "0.stride": 2, "0.padding": 0}
    sequence, error = direct._native_sequence(pool | {"0.same": False}), ctypes.c_char_p()
    call = binary.library().sknet_ops_sequence_call
    assert call(sequence, 0, None, None, None, ctypes.byref(error)) == 1
    assert error.value == b"op_sequence: got 0 buffers, expected 1 inputs and 1 outputs"
