# SPDX-License-Identifier: Apache-2.0
"""Frozen networks whose ops run as one op_sequence: same bits, and what is not taken for a sequence."""

from __future__ import annotations

import copy

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import sknet_ops
from sknet_ops import primitives
from sknet_ops.layers import ConvBnAct, GlobalAvgPool, MaxPool2d, SelectiveKernel
from sknet_ops.primitives.custom import make_custom
from sknet_ops.primitives.op_sequence import Step
from sknet_ops.sequences.cells import _programs
from sknet_ops.sequences.recording import record


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    return request.param


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> ConvBnAct:
    layer = nn.Conv2d(c_in, c_out, kernel, stride, pad_mode="pad", padding=kernel // 2)
    return ConvBnAct(layer, nn.BatchNorm2d(c_out), nn.ReLU if relu else None)


class Block(nn.Cell):
    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = SelectiveKernel(c_in, width, stride=stride)
        self.conv2 = conv(width, width)
        self.down_sample = conv(c_in, width, 1, stride, relu=False) if stride > 1 else None

    def construct(self, x):
        shortcut = x
        if self.down_sample is not None:
            shortcut = self.down_sample(x)
        return self.conv2(self.conv1(x), shortcut)


class Net(nn.Cell):
    """16 channels at 40 x 40, then 32 at 20 x 20 and 64 at 10 x 10: where maps outweigh weights, and where not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.pool = MaxPool2d(3, 2, pad_mode="same")
        self.stages = nn.SequentialCell([Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), Block(64, 64, 1)])
        self.mean = GlobalAvgPool()
        self.classifier = nn.Dense(64, 5)

    def forward_features(self, x):
        return self.stages(self.pool(self.stem(x)))

    def construct(self, x):
        return self.classifier(self.mean(self.forward_features(x)))


def seeded(make) -> nn.Cell:
    """With norms that do something; in inference."""
    ms.set_seed(5)
    np.random.seed(5)
    net = make().set_train(False)
    rng = np.random.default_rng(6)
    for name, parameter in net.parameters_and_names():
        if parameter.ndim == 1:
            low = 0.5 if name.endswith(("gamma", "variance")) else -0.5
            values = rng.uniform(low, low + 1, parameter.shape).astype(np.float32)
            parameter.set_data(ms.Tensor(values))
    return net


def images(n: int, size: int = 40, seed: int = 0) -> ms.Tensor:
    return ms.Tensor(np.random.default_rng(seed).standard_normal((n, 3, size, size)).astype(np.float32))


def steps_of(net: nn.Cell) -> dict[str, list[str]]:
    """Names of the cells that became sequences, with the ops in each."""
    return {
        name: [step.op for step in _programs[cell.sknet_program].steps]
        for name, cell in net.cells_and_names()
        if hasattr(cell, "sknet_program")
    }


BLOCK = ["selective_kernel", "conv_bn_act"]
DOWN = ["conv_bn_act", "selective_kernel", "conv_bn_act"]  # as the shortcut is computed first
STEPS = ["conv_bn_act", "max_pool", *BLOCK, *DOWN, *DOWN, *BLOCK]


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits(mode, threads) -> None:
    plain, frozen = seeded(Net), sknet_ops.freeze(seeded(Net))
    assert steps_of(frozen) == {"": STEPS}
    sknet_ops.set_num_threads(threads)
    try:
        for n, size in ((1, 40), (11, 40), (4, 40), (5, 37), (1, 40)):  # 11: rounds of few images, the last not full
            expected = plain(images(n, size)).asnumpy()
            for _ in range(2):  # packed anew, and kept
                assert np.array_equal(frozen(images(n, size)).asnumpy(), expected)
    finally:
        sknet_ops.set_num_threads(0)


def test_dynamic_batch() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    plain, frozen = seeded(Net), sknet_ops.freeze(seeded(Net))
    for net in (plain, frozen):
        net.set_inputs(ms.Tensor(shape=[None, 3, 40, 40], dtype=ms.float32))
    for n in (3, 9, 1, 9):
        assert np.array_equal(frozen(images(n)).asnumpy(), plain(images(n)).asnumpy())


def test_empty_batch() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    frozen = sknet_ops.freeze(seeded(Net))
    assert frozen.forward_features(images(0)).shape == (0, 64, 5, 5)


def test_gradients(mode) -> None:
    def gradients(net: nn.Cell) -> list[np.ndarray]:
        weights = ms.ParameterTuple(net.trainable_params())
        of_input, of_weights = ops.GradOperation(get_all=True, get_by_list=True)(net, weights)(images(2))
        return [gradient.asnumpy() for gradient in (*of_input, *of_weights)]

    plain, frozen = gradients(seeded(Net)), gradients(sknet_ops.freeze(seeded(Net)))
    assert len(plain) == len(frozen) > 40
    assert all(np.abs(gradient).max() > 0 for gradient in plain)
    for got, expected in zip(frozen, plain, strict=True):
        assert np.array_equal(got, expected)


def test_training_of_a_part(mode) -> None:
    """One norm in training: the steps run by themselves again, and its statistics move as they did."""
    plain, frozen = seeded(Net), sknet_ops.freeze(seeded(Net))
    results = []
    for net in (plain, frozen):
        norm = net.stages[2].down_sample.norm_holder
        norm.set_train()
        results.append((net(images(3)).asnumpy(), norm.moving_mean.asnumpy()))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][1], seeded(Net).stages[2].down_sample.norm_holder.moving_mean.asnumpy())


@pytest.mark.parametrize("bias", [True, False])
def test_constants(mode, bias) -> None:
    """The classifier is a step; x, the weights of the convolutions and one tensor more go into the op."""

    def make() -> Net:
        net = Net()
        net.classifier = nn.Dense(64, 5, has_bias=bias)
        return net

    plain, frozen = seeded(make), sknet_ops.freeze(seeded(make), constant=True)
    assert steps_of(frozen) == {"": [*STEPS, "pool_dense"]}
    layers = [cell for _, cell in frozen.cells_and_names() if isinstance(cell, (ConvBnAct, SelectiveKernel))]
    convs = sum(2 if isinstance(layer, SelectiveKernel) else 1 for layer in layers)
    assert _programs[frozen.sknet_program].inputs == 1 + convs + 1
    for n in (1, 11, 1):
        expected = plain(images(n)).asnumpy()
        for _ in range(2):
            got = frozen(images(n)).asnumpy()
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


def test_constants_of_a_copy() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    frozen = sknet_ops.freeze(seeded(Net), constant=True)
    expected, twin = frozen(images(2)).asnumpy(), copy.deepcopy(frozen)
    for parameter in frozen.get_parameters():
        parameter.set_data(parameter * 0)
    assert np.array_equal(twin(images(2)).asnumpy(), expected)


def test_constants_empty_batch() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert sknet_ops.freeze(seeded(Net), constant=True)(images(0)).shape == (0, 5)


def test_a_classifier_in_half_precision() -> None:
    """It is no step: the op computes in float32."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = seeded(Net)
    net.classifier.to_float(ms.float16)
    frozen = sknet_ops.freeze(net, constant=True)
    assert steps_of(frozen) == {"": STEPS}
    assert frozen(images(2)).dtype == ms.float16


def test_constants_without_a_classifier(mode) -> None:
    plain, frozen = seeded(lambda: Block(16, 32, 2)), sknet_ops.freeze(seeded(lambda: Block(16, 32, 2)), constant=True)
    assert steps_of(frozen) == {"": DOWN}
    x = ms.Tensor(np.random.default_rng(1).standard_normal((2, 16, 9, 9)).astype(np.float32))
    assert np.array_equal(frozen(x).asnumpy(), plain(x).asnumpy())


def test_constants_of_one_layer(mode) -> None:
    def make() -> nn.Cell:
        return SelectiveKernel(16, 32, stride=2)

    plain, frozen = seeded(make), sknet_ops.freeze(seeded(make), constant=True)
    assert steps_of(frozen) == {"": ["selective_kernel"]}
    x = ms.Tensor(np.random.default_rng(1).standard_normal((2, 16, 9, 9)).astype(np.float32))
    assert np.array_equal(frozen(x).asnumpy(), plain(x).asnumpy())
    assert np.array_equal(sknet_ops.freeze(frozen, constant=True)(x).asnumpy(), plain(x).asnumpy())


def test_constants_of_mindcv() -> None:
    mindcv = pytest.importorskip("mindcv", reason="MindCV is missing: pip install mindcv==0.3.0")
    ms.set_context(mode=ms.GRAPH_MODE)
    plain, frozen = (sknet_ops.fuse(seeded(lambda: mindcv.create_model("skresnet18", num_classes=7))) for _ in range(2))
    sknet_ops.freeze(frozen, constant=True)
    assert steps_of(frozen)[""][-2:] == ["conv_bn_act", "pool_dense"]
    got, expected = frozen(images(2, 64)).asnumpy(), plain(images(2, 64)).asnumpy()
    assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


def test_constants_dynamic_batch() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    plain, frozen = seeded(Net), sknet_ops.freeze(seeded(Net), constant=True)
    frozen.set_inputs(ms.Tensor(shape=[None, 3, 40, 40], dtype=ms.float32))
    for n in (3, 9, 1):
        expected = plain(images(n)).asnumpy()
        assert np.abs(frozen(images(n)).asnumpy() - expected).max() <= 2e-6 * np.abs(expected).max()


def test_constants_refuse_a_gradient(mode) -> None:
    frozen = sknet_ops.freeze(seeded(Net), constant=True)
    with pytest.raises(ValueError, match=r"op_sequence: no gradient after freeze\(constant=True\): unfreeze"):
        ops.GradOperation(get_all=True)(frozen)(images(2))[0].asnumpy()
    plain = ops.GradOperation(get_all=True)(seeded(Net))(images(2))[0].asnumpy()
    assert np.array_equal(ops.GradOperation(get_all=True)(sknet_ops.unfreeze(frozen))(images(2))[0].asnumpy(), plain)


def test_constants_refuse_other_weights(mode) -> None:
    """As after loading a checkpoint; frozen again, the network has the new values."""
    frozen, other = sknet_ops.freeze(seeded(Net), constant=True), seeded(Net)
    frozen(images(1)).asnumpy()
    for source, target in zip(other.get_parameters(), frozen.get_parameters(), strict=True):
        source.set_data(source * 1.5)
        target.set_data(target * 1.5)
    with pytest.raises(RuntimeError, match=r"got other weights than freeze\(constant=True\) has seen"):
        frozen(images(1)).asnumpy()
    got, expected = sknet_ops.freeze(frozen, constant=True)(images(1)).asnumpy(), other(images(1)).asnumpy()
    assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


def test_constants_training_goes_on(mode) -> None:
    def step(net: Net) -> list[np.ndarray]:
        net.set_train()
        weights = ms.ParameterTuple(net.trainable_params())
        return [g.asnumpy() for g in ops.GradOperation(get_by_list=True)(net, weights)(images(2))]

    for got, expected in zip(step(sknet_ops.freeze(seeded(Net), constant=True)), step(seeded(Net)), strict=True):
        assert np.array_equal(got, expected)


class Doubles(nn.Cell):
    """Not a sequence itself, so that one lies below the cell that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    @property
    def classifier(self) -> nn.Cell:
        return self.net.classifier

    def construct(self, x):
        return self.net(x) * 2


@pytest.mark.parametrize("kind", [Net, Doubles])
def test_constants_after_training_of_the_classifier(mode, kind) -> None:
    """No convolution has changed, and still the old constants are not used."""
    frozen, plain = sknet_ops.freeze(seeded(kind), constant=True), seeded(kind)
    assert list(steps_of(frozen).values()) == [[*STEPS, "pool_dense"]]
    frozen(images(2)).asnumpy()
    for net in (frozen, plain):
        net.set_train()
        weights = ms.ParameterTuple(net.classifier.trainable_params())
        gradient = ops.GradOperation(get_by_list=True)(net, weights)(images(2))[0]
        net.classifier.weight.set_data(net.classifier.weight - gradient)
        net.set_train(False)
    expected = plain(images(2)).asnumpy()
    assert np.array_equal(frozen(images(2)).asnumpy(), expected)
    again = sknet_ops.freeze(frozen, constant=True)(images(2)).asnumpy()
    assert np.abs(again - expected).max() <= 2e-6 * np.abs(expected).max()


def test_unfreeze_and_copies() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = sknet_ops.freeze(seeded(Net))
    expected = net(images(2)).asnumpy()
    twin = copy.deepcopy(net)
    for parameter in net.trainable_params():
        parameter.set_data(parameter * 0)
    assert np.array_equal(twin(images(2)).asnumpy(), expected)
    for change in (sknet_ops.unfreeze, sknet_ops.freeze, sknet_ops.freeze, sknet_ops.unfreeze):
        assert np.array_equal(change(twin)(images(2)).asnumpy(), expected)
    assert type(twin) is Net
    assert steps_of(twin) == {}
    assert [name for name, _ in twin.parameters_and_names()] == [name for name, _ in Net().parameters_and_names()]


class Asks(Block):
    def construct(self, x):
        return super().construct(x) if isinstance(x, ms.Tensor) else x


class Prints(Block):
    def construct(self, x):
        return self.conv2(self.conv1(x * 2), x)


class TwoArguments(Block):
    def construct(self, x, residual):
        return self.conv2(self.conv1(x), residual)


class Returns(Block):
    def construct(self, x):
        y = self.conv1(x)
        self.conv2(y)
        return y


class Depends(Block):
    def construct(self, x):
        return self.conv2(self.conv1(x), x) if x.shape[0] > 1 else self.conv1(x)


class Counts(Block):
    def construct(self, x):
        self.calls = 1
        return self.conv2(self.conv1(x), x)


def test_a_hook_that_comes_later() -> None:
    """It is called: the steps run by themselves while it is there."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    frozen, seen = sknet_ops.freeze(seeded(Net)), []
    expected = frozen(images(2)).asnumpy()
    hook = frozen.stages[1].conv1.register_forward_pre_hook(lambda cell, inputs: seen.append(inputs[0].shape))
    assert np.array_equal(frozen(images(2)).asnumpy(), expected)
    hook.remove()
    assert np.array_equal(frozen(images(2)).asnumpy(), expected)
    assert seen == [(2, 16, 20, 20)]


@pytest.mark.parametrize("kind", [Asks, Prints, TwoArguments, Returns, Depends, Counts])
def test_no_sequence(kind) -> None:
    assert record(seeded(lambda: kind(16, 16, 1)), "construct") is None


def test_no_sequence_with_a_hook() -> None:
    net = seeded(Net)
    net.stages[1].conv1.register_forward_hook(lambda cell, inputs, output: output)
    sknet_ops.freeze(net)
    assert steps_of(net) == {"stages.0": BLOCK, "stages.2": DOWN, "stages.3": BLOCK}


def test_a_cell_that_is_called_twice(mode) -> None:
    class Twice(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(16, 16, 1)

        def construct(self, x):
            return self.block(self.block(x))

    x = ms.Tensor(np.random.default_rng(1).standard_normal((2, 16, 9, 9)).astype(np.float32))
    frozen = sknet_ops.freeze(seeded(Twice))
    assert steps_of(frozen) == {"": BLOCK * 2}
    assert len(frozen.sknet_weights) == len(list(frozen.get_parameters()))
    assert np.array_equal(frozen(x).asnumpy(), seeded(Twice)(x).asnumpy())


def test_equal_parameter_names(mode) -> None:
    """As cells have that were made by themselves and put together with auto_prefix=False."""

    class Two(nn.Cell):
        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.first, self.second = Block(16, 16, 1), Block(16, 16, 1)

        def construct(self, x):
            return self.second(self.first(x))

    x = ms.Tensor(np.random.default_rng(1).standard_normal((2, 16, 9, 9)).astype(np.float32))
    frozen = sknet_ops.freeze(seeded(Two))
    assert frozen.first.conv2.conv_holder.weight.name == frozen.second.conv2.conv_holder.weight.name
    assert steps_of(frozen) == {"": BLOCK * 2}
    assert np.array_equal(frozen(x).asnumpy(), seeded(Two)(x).asnumpy())


def test_wrong_input(mode) -> None:
    """Refused as by the network that is not frozen, in Python and by the same op."""
    frozen = sknet_ops.freeze(seeded(Net))
    with pytest.raises(ValueError, match="conv_bn_act: weight: got shape"):
        frozen(ms.Tensor(np.zeros((1, 4, 40, 40), np.float32)))
    with pytest.raises(TypeError, match="conv_bn_act: x: got dtype float16, expected float32"):
        frozen(ms.Tensor(np.zeros((1, 3, 40, 40), np.float16)))


def test_broadcast_addition(mode) -> None:
    """fuse lets an addition broadcast; the op does not, so such shapes go step by step."""

    class Broadcast(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.SequentialCell([nn.Conv2d(8, 8, 1, has_bias=False), nn.BatchNorm2d(8)])
            self.conv = nn.Conv2d(8, 8, 3, stride=2, pad_mode="pad", padding=1)
            self.bn = nn.BatchNorm2d(8)

        def construct(self, x):
            y = self.conv(x)
            y = self.bn(y)
            y = y + self.first(x)
            return y

    frozen = sknet_ops.freeze(sknet_ops.fuse(seeded(Broadcast)))
    assert steps_of(frozen) == {"": ["conv_bn_act", "conv_bn_act"]}
    for shape in ((2, 8, 1, 1), (2, 8, 2, 1)):
        x = ms.Tensor(np.random.default_rng(2).standard_normal(shape).astype(np.float32))
        expected = sknet_ops.fuse(seeded(Broadcast))(x).asnumpy()
        assert np.array_equal(frozen(x).asnumpy(), expected)


def test_operands_must_be_there() -> None:
    step = Step("max_pool", (("kernel", 1), ("stride", 1), ("padding", 0), ("same", False)), (2,))
    with pytest.raises(ValueError, match=r"op_sequence: steps\[0\].operands: got \[2\], expected numbers in 0..1"):
        primitives.op_sequence(2, (step,))


POOL = {"kernel": 2, "stride": 2, "padding": 0, "same": False}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"operands": (0, 2)}, "operands: got 2 for input 0 of step 1, expected 0..1"),
        ({"operands": (0, -1)}, "operands: got -1 for input 0 of step 1"),
        ({"operands": (0,)}, "operands: got too few"),
        ({"operands": (0, 1, 1)}, "operands: got more"),
        ({"steps": "max_pool,sk_select"}, "steps: got sk_select, expected conv_bn_act, selective_kernel, max_pool or"),
        ({"constants": (1, 3)}, "constants: got some, and no input to hold them"),
        ({"constants": (2, 3)}, "constants: got a list that ends in a shape"),
        ({"constants": (-1,)}, "constants: got a list that ends in a shape"),
        ({"constants": (2, 3, 0)}, "constants: got no shape"),
        ({"constants": (3, 2**31, 2**31, 2**31)}, "constants: got no shape"),
        ({"constants": (2, 2**31, 2**31)}, "constants: got too many values"),
        ({"1.kernel": 9}, "max_pool: x: got height 2 with kernel 9"),
    ],
    ids=[
        *("forward", "negative", "few", "many", "step"),
        *("no input", "short", "rank", "zero", "overflow", "large"),
        "shape",
    ],
)
def test_native_refusals(changed, message) -> None:
    """The C entry holds by itself, whoever calls it."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    attrs = {"inputs": 1, "steps": "max_pool,max_pool", "operands": (0, 1)}
    attrs |= {f"{step}.{name}": value for step in range(2) for name, value in POOL.items()}
    x = ms.Tensor(np.zeros((1, 1, 4, 4), np.float32))
    assert make_custom("op_sequence", ["y"], attrs)(x)[0].shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError, match=message):
        make_custom("op_sequence", ["y"], attrs | changed)(x)[0].asnumpy()


def test_native_refusals_of_constants() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    attrs = {"inputs": 2, "steps": "max_pool,max_pool", "operands": (0, 3), "constants": (4, 1, 1, 8, 8)}
    attrs |= {f"{step}.{name}": value for step in range(2) for name, value in POOL.items()}
    x, held = (ms.Tensor(np.zeros(shape, np.float32)) for shape in ((1, 1, 4, 4), (64,)))
    assert make_custom("op_sequence", ["y"], attrs)(x, held)[0].shape == (1, 1, 1, 1)
    for changed, message in (
        ({"operands": (0, 2)}, "operands: got 2 for input 0 of step 1"),  # a constant is no map
        ({"constants": (4, 1, 1, 8, 9)}, "op_sequence: constants: got shape \\(64,\\), expected shape \\(72,\\)"),
    ):
        with pytest.raises(RuntimeError, match=message):
            make_custom("op_sequence", ["y"], attrs | changed)(x, held)[0].asnumpy()
