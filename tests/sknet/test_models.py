# SPDX-License-Identifier: Apache-2.0
"""The models: sizes, names, and the same numbers as MindCV's own."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from sknet import create_model, list_models
from sknet.macs import count_layers
from sknet.models import get_spec

PARAMETERS = {
    "skresnet18": 11_958_056,
    "skresnet34": 22_282_376,
    "skresnet50": 25_803_160,
    "skresnext50_32x4d": 37_245_352,
    "skresnet18.timm": 11_958_056,
    "skresnet34.timm": 22_282_376,
    "skresnet50.timm": 25_803_160,
    "skresnet50d.timm": 25_822_392,
    "skresnext50_32x4d.timm": 27_479_784,
    "sknet26": 16_746_408,
    "sknet50": 27_479_784,
    "sknet101": 48_736_040,
    "sknet_tiny": 148_088,
    "sknet_cifar": 846_920,
    "plain_cifar": 824_328,
    "sknet8_cifar": 447_656,
    "plain8_cifar": 436_360,
}
MINDCV = ["skresnet18", "skresnet34", "skresnet50", "skresnext50_32x4d"]


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_every_model_has_a_count() -> None:
    assert list_models() == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    net = create_model(name)
    assert sum(p.size for p in net.trainable_params()) == PARAMETERS[name]
    assert sum(layer.params for layer in count_layers(get_spec(name))) == PARAMETERS[name]


def test_mindcv_published_size() -> None:
    """MindCV's page counts the running statistics too: 37.31 M."""
    assert round(sum(p.size for p in create_model("skresnext50_32x4d").get_parameters()) / 1e6, 2) == 37.31


def test_published_addresses() -> None:
    """MindCV's, of which one was dead until its page, not its code, corrected the name."""
    sknet = pytest.importorskip("mindcv.models.sknet")
    theirs = {name: config["url"].replace("/sknet18-", "/skresnet18-") for name, config in sknet.default_cfgs.items()}
    assert {name: get_spec(name).weights_url for name in MINDCV} == theirs
    assert sum(map(bool, theirs.values())) == 3


@pytest.mark.parametrize(("name", "millions"), [("sknet26", 16.8), ("sknet50", 27.5), ("sknet101", 48.9)])
def test_paper_parameters(name: str, millions: float) -> None:
    assert abs(PARAMETERS[name] / 1e6 - millions) < 0.2


@pytest.mark.parametrize("name", ["sknet_cifar", "sknet8_cifar"])
def test_plain_twins_are_equal_but_for_selection(name: str) -> None:
    """The same convolutions' multiplications, and parameters within 4 % for ten classes."""
    sk, plain = (count_layers(get_spec(n), (32, 32), num_classes=10) for n in (name, name.replace("sknet", "plain")))
    assert 0.96 < sum(layer.params for layer in plain) / sum(layer.params for layer in sk) < 1
    assert 0.99 < sum(layer.macs for layer in plain) / sum(layer.macs for layer in sk) < 1


@pytest.mark.parametrize(("name", "giga"), [("sknet50", 4.47), ("sknet101", 8.46)])
def test_paper_macs(name: str, giga: float) -> None:
    assert round(sum(layer.macs for layer in count_layers(get_spec(name))) / 1e9, 2) == giga


@pytest.mark.parametrize("name", ["skresnet18", "skresnet50d.timm", "sknet26", "sknet_tiny", "plain8_cifar"])
def test_layer_table_has_the_true_shapes(name: str) -> None:
    """An odd size, where rounding differs between right and wrong."""
    net = create_model(name, num_classes=7)
    net.set_train(False)
    size = (45, 39)
    features = net.forward_features(Tensor(np.zeros((1, 3, *size), np.float32)))
    layers = count_layers(get_spec(name), size, num_classes=7)
    blocks = [layer for layer in layers if layer.name.startswith("layer") and "down_sample" not in layer.name]
    assert features.shape[1:] == blocks[-1].shape
    assert layers[-1].shape == (7,)


@pytest.mark.parametrize("name", MINDCV)
def test_names_and_logits_are_mindcvs(name: str, graph_mode: None) -> None:
    mindcv = pytest.importorskip("mindcv")
    ms.set_seed(1)
    theirs, ours = mindcv.create_model(name, num_classes=11), create_model(name, num_classes=11)
    rng = np.random.default_rng(1)
    assert {k: p.shape for k, p in theirs.parameters_dict().items()} == {
        k: p.shape for k, p in ours.parameters_dict().items()
    }
    for key, param in theirs.parameters_dict().items():
        value = param.asnumpy()
        if value.ndim == 1:
            # Statistics and scales that a mistaken place or order of a norm would show. Small scales: with large ones
            # the softmax across branches, fed with values in the thousands, turns last bits into percents.
            value = rng.uniform(0.2, 0.8, value.shape).astype(np.float32)
            if key.endswith(("beta", "moving_mean", "bias")):
                value = value - 0.5
            elif key.endswith("moving_variance"):
                value = 2 * value
        param.set_data(Tensor(value))
        ours.parameters_dict()[key].set_data(Tensor(value))
    x = Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    theirs.set_train(False)
    ours.set_train(False)
    assert relative(ours(x).asnumpy(), theirs(x).asnumpy()) < 1e-5


def test_initialisation_is_mindcvs() -> None:
    mindcv = pytest.importorskip("mindcv")
    theirs, ours = mindcv.create_model("skresnet18"), create_model("skresnet18")
    for name, param in theirs.parameters_dict().items():
        a, b = param.asnumpy(), ours.parameters_dict()[name].asnumpy()
        if a.ndim == 1:
            np.testing.assert_array_equal(a, b, err_msg=name)
        elif a.size >= 4096:
            assert abs(a.std() / b.std() - 1) < 0.06, name
            assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.35, name  # a normal one, or a uniform one


@pytest.mark.parametrize("name", ["skresnet18", "skresnet50d.timm", "sknet_tiny"])
def test_mindspores_own_convolution_is_met_nowhere(
    name: str, monkeypatch: pytest.MonkeyPatch, graph_mode: None
) -> None:
    def forbidden(self: nn.Cell, *args: Tensor) -> Tensor:
        raise AssertionError(f"{type(self).__name__} of MindSpore was called")

    net = create_model(name, num_classes=3)
    for cell in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU):
        monkeypatch.setattr(cell, "construct", forbidden)
    ms.set_context(mode=ms.PYNATIVE_MODE)  # here a construct that is called is executed
    for training in (False, True):
        net.set_train(training)
        assert net(Tensor(np.ones((2, 3, 32, 32), np.float32))).shape == (2, 3)


def test_average_of_an_odd_edge() -> None:
    """ResNet-D's shortcut averages what is there: at an odd edge one column, not one and a zero."""
    from sknet.models.blocks import make_shortcut

    pool = make_shortcut(1, 1, 2, avg_down=True).pool
    y = pool(Tensor(np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3))).asnumpy()
    np.testing.assert_array_equal(y[0, 0], [[2.0, 3.5], [6.5, 8.0]])


def test_other_channels_and_classes() -> None:
    net = create_model("sknet_tiny", num_classes=5, in_channels=1)
    net.set_train(False)
    assert net(Tensor(np.ones((2, 1, 9, 7), np.float32))).shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("skresnet81",), ValueError, "unknown model 'skresnet81': did you mean skresnet18"),
        (("zebra",), ValueError, "known models: skresnet18"),
        ((18,), TypeError, "model name: expected str, got int"),
        (("sknet_tiny", 0), ValueError, "num_classes: expected at least 1, got 0"),
        (("sknet_tiny", "10"), TypeError, "num_classes: expected int, got str"),
        (("sknet_tiny", True), TypeError, "num_classes: expected int, got bool"),
        (("sknet_tiny", 10, -3), ValueError, "in_channels: expected at least 1, got -3"),
        (("sknet_tiny", 10, 3, "nowhere.ckpt"), FileNotFoundError, "nowhere.ckpt: no such file"),
        (("sknet_tiny", 10, 3, "weights.pth"), ValueError, "expected a file that ends in .ckpt or .safetensors"),
    ],
)
def test_bad_arguments(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        create_model(*arguments)
    assert words in str(caught.value)
