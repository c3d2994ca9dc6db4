# SPDX-License-Identifier: Apache-2.0
"""load_weights: every source and naming, and what it refuses."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from sknet import create_model, load_weights
from sknet.weights.naming import to_native


def arrays_of(net, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {p.name: rng.standard_normal(p.shape).astype(np.float32) for p in net.get_parameters()}


def timm_name(name: str) -> str:
    """The way back, written independently of sknet.weights.naming, for basic blocks."""
    if name.startswith("classifier"):
        return name.replace("classifier", "fc")
    name = name.replace("down_sample", "downsample").replace("features.0", "conv").replace("features.1", "bn")
    name = name.replace("conv2.0", "conv2.conv").replace("conv2.1", "conv2.bn")
    for ours, theirs in {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }.items():
        name = name.replace(ours, theirs)
    return name


def assert_loaded(net, arrays: dict[str, np.ndarray]) -> None:
    for param in net.get_parameters():
        np.testing.assert_array_equal(param.asnumpy(), arrays[param.name], err_msg=param.name)


@pytest.fixture
def net():
    return create_model("sknet_tiny", num_classes=4)


@pytest.fixture
def checkpoint(net, tmp_path: Path) -> Path:
    path = tmp_path / "weights.ckpt"
    ms.save_checkpoint(net, str(path), crc_check=True)
    return path


def test_dict(net) -> None:
    arrays = arrays_of(net)
    load_weights(net, arrays)
    assert_loaded(net, arrays)


@pytest.mark.parametrize("named", [lambda name: name, timm_name], ids=["MindCV", "timm"])
def test_classifier_of_other_classes(net, named) -> None:
    fresh = net.classifier.weight.asnumpy().copy()
    other = {named(name): array for name, array in arrays_of(create_model("sknet_tiny", num_classes=9)).items()}
    with pytest.raises(ValueError, match=r"misshapen \(2\)"):
        load_weights(net, other)
    assert load_weights(net, other, replace_classifier=True) is True
    np.testing.assert_array_equal(net.classifier.weight.asnumpy(), fresh)
    np.testing.assert_array_equal(net.conv1.weight.asnumpy(), other["conv1.weight"])

    arrays = arrays_of(net)
    assert load_weights(net, arrays, replace_classifier=True) is False
    assert_loaded(net, arrays)
    # Other features, too: that is no classifier to leave out.
    arrays["classifier.weight"] = arrays["classifier.weight"][:2, :5]
    with pytest.raises(ValueError, match=r"misshapen \(1\)"):
        load_weights(net, arrays, replace_classifier=True)


def test_dict_of_float64_and_tensors(net) -> None:
    arrays = arrays_of(net)
    load_weights(net, {k: v.astype(np.float64) for k, v in arrays.items()})
    assert_loaded(net, arrays)
    load_weights(net, {k: ms.Tensor(v) for k, v in arrays.items()})
    assert_loaded(net, arrays)


def test_ckpt(net, tmp_path: Path) -> None:
    arrays = arrays_of(net)
    load_weights(net, arrays)
    for crc_check in (True, False):
        ms.save_checkpoint(net, str(tmp_path / "a.ckpt"), crc_check=crc_check, append_dict={"epoch_num": 3})
        other = create_model("sknet_tiny", num_classes=4, checkpoint_path=tmp_path / "a.ckpt")
        assert_loaded(other, arrays)


def test_safetensors_under_timms_names(net, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = arrays_of(net)
    named = {timm_name(k): v for k, v in arrays.items()}
    named["bn1.num_batches_tracked"] = np.array(7)
    assert not set(named) & set(arrays) - {"conv1.weight"} - {k for k in arrays if "attn.fc" in k}
    save_file(named, tmp_path / "a.safetensors")
    load_weights(net, tmp_path / "a.safetensors")
    assert_loaded(net, arrays)


def test_our_names_stay() -> None:
    for name in ("skresnet18", "skresnet50", "skresnet50d.timm"):
        net = create_model(name)
        for param in net.get_parameters():
            assert to_native(param.name, param.ndim, net.deep_stem) == param.name


def test_checkpoints_of_mindcv_both_ways(tmp_path: Path) -> None:
    mindcv = pytest.importorskip("mindcv")
    theirs, ours = mindcv.create_model("skresnet18", num_classes=3), create_model("skresnet18", num_classes=3)
    ms.save_checkpoint(theirs, str(tmp_path / "theirs.ckpt"))
    load_weights(ours, tmp_path / "theirs.ckpt")
    assert_loaded(ours, {p.name: p.asnumpy() for p in theirs.get_parameters()})

    load_weights(ours, arrays_of(ours))
    ms.save_checkpoint(ours, str(tmp_path / "ours.ckpt"), crc_check=True)
    left = ms.load_param_into_net(theirs, ms.load_checkpoint(str(tmp_path / "ours.ckpt")), strict_load=True)
    assert left == ([], [])
    assert_loaded(theirs, arrays_of(ours))


def test_error_lists_what_does_not_fit(net) -> None:
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    arrays = arrays_of(net)
    del arrays["classifier.bias"]
    arrays["layer9.0.weight"] = np.zeros(3, np.float32)
    arrays["conv1.weight"] = np.zeros((16, 3, 7, 7), np.float32)
    with pytest.raises(ValueError, match="the dict do not fit the network") as caught:
        load_weights(net, arrays)
    text = str(caught.value)
    assert "missing (1):\n    classifier.bias" in text
    assert "unexpected (1):\n    layer9.0.weight" in text
    assert "misshapen (1):\n    conv1.weight: expected (16, 3, 3, 3), got (16, 3, 7, 7)" in text
    assert_loaded(net, before)


def test_long_lists_are_cut(net) -> None:
    with pytest.raises(ValueError, match=r"and \d+ more"):
        load_weights(net, {})


def test_same_parameter_twice(net) -> None:
    arrays = arrays_of(net)
    arrays["fc.bias"] = arrays["classifier.bias"]
    with pytest.raises(ValueError, match="unexpected \\(1\\):\n    fc.bias"):
        load_weights(net, arrays)


def test_integers_are_no_weights(net) -> None:
    arrays = arrays_of(net)
    arrays["bn1.gamma"] = np.ones(16, np.int32)
    with pytest.raises(ValueError, match="bn1.gamma: expected floating point, got int32"):
        load_weights(net, arrays)


def test_wrong_model(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="weights of .*weights.ckpt do not fit the network"):
        load_weights(create_model("sknet_tiny", num_classes=5), checkpoint)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_ckpt_cut_short(net, checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="weights.ckpt: not a readable MindSpore checkpoint"):
        load_weights(net, checkpoint)


def test_one_bit_flipped(net, checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="weights.ckpt: not a readable MindSpore checkpoint"):
        load_weights(net, checkpoint)


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"\xff" * 64])
def test_damaged_safetensors(net, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.safetensors: not a readable safetensors file"):
        load_weights(net, path)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (3, TypeError, "source: expected a path or a dict"),
        ({"conv1.weight": [1.0]}, TypeError, r"source\['conv1.weight'\]: expected a numpy array, got list"),
        ({1: np.zeros(3)}, TypeError, "expected names of type str, got int"),
        ("a.pth", ValueError, "ends in .ckpt or .safetensors"),
        ("none.safetensors", FileNotFoundError, "none.safetensors: no such file"),
    ],
)
def test_bad_source(net, source: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_weights(net, source)
