# SPDX-License-Identifier: Apache-2.0
"""MindIR and ONNX compute what the network computes, at any batch size, and are refused where they would not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sknet
from mindspore import Tensor, nn
from sknet.deploy.export import ExportError, export
from sknet.deploy.mindir import load_mindir
from sknet.deploy.runner import make_runner
from sknet.deploy.source import open_source

from tests.deploy.networks import CLASSES, vary
from tests.mindspore_tools import relative

BATCHES = (1, 2, 7)
# Odd sizes, and ones that the strides do not divide.
SIZES = {"sknet_tiny": (19, 22)}
MODELS = (
    "skresnet18",  # MindCV: pooling padded at the end, split input
    "skresnet50",  # MindCV's bottleneck, without ReLU after conv1
    "skresnext50_32x4d",  # whole input
    "skresnet18.timm",  # pooling padded on both sides
    "skresnet50d.timm",  # deep stem, averages before the shortcut
    "skresnext50_32x4d.timm",  # groups
    "sknet26",  # paper
    "sknet_tiny",  # no pooling
)


@pytest.mark.parametrize("name", MODELS)
def test_onnx(name: str) -> None:
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    from sknet.deploy.onnx_export import to_onnx

    net = sknet.create_model(name, num_classes=5)
    vary(net, 3)
    height, width = SIZES.get(name, (65, 70))
    model = to_onnx(net, (height, width))
    assert {node.domain for node in model.graph.node} == {""}
    counts = Counter(node.op_type for node in model.graph.node)
    assert "BatchNormalization" not in counts
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for n in BATCHES[:2]:
        x = rng.standard_normal((n, 3, height, width), dtype=np.float32)
        expected = net(Tensor(x)).asnumpy()
        (got,) = session.run(None, {"images": x})
        assert relative(got, expected) < 1e-4
    assert np.ptp(expected) > 1e-3  # a network that says the same of everything would prove nothing


def test_onnx_takes_our_networks_only() -> None:
    pytest.importorskip("onnx")
    from sknet.deploy.onnx_export import to_onnx

    with pytest.raises(TypeError, match="expected a network of sknet.create_model, got Conv2d"):
        to_onnx(nn.Conv2d(3, 3, 3), (8, 8))


@pytest.mark.parametrize("form", ["mindir", "onnx"])
def test_export_and_open(form: str, checkpoint: Path, tmp_path: Path) -> None:
    if form == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    source = open_source(checkpoint)
    done = export(source, form, tmp_path / f"net.{form}")
    assert done.difference < 1e-4
    exported = open_source(done.path)
    assert (exported.model, exported.classes, exported.preprocessing) == (
        source.model,
        CLASSES,
        source.preprocessing,
    )
    native, runner = make_runner(source), make_runner(exported)
    for n in BATCHES:
        x = np.random.default_rng(n).standard_normal((n, 3, 16, 16), dtype=np.float32)
        assert relative(runner(x), native(x)) < (1e-4 if form == "onnx" else 1e-12)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"net.{form}", f"net.{form}.json"]


def test_mindir_of_another_machine(checkpoint: Path, tmp_path: Path) -> None:
    """The library's path in the file is that of the machine that wrote it."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    source = open_source(checkpoint)
    path = export(source, "mindir", tmp_path / "net.mindir").path
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    moved = 0
    for attribute in (a for p in model.primitives for a in p.attribute):
        if attribute.name == "func_name":
            attribute.s = b"/elsewhere/libsknet_ops.so:" + attribute.s.rpartition(b":")[2]
            moved += 1
    assert moved
    (tmp_path / "moved.mindir").write_bytes(model.SerializeToString())
    program = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom mindspore import Tensor\n"
        "from sknet.deploy.mindir import load_mindir\n"
        "x = np.random.default_rng(0).standard_normal((4, 3, 16, 16), dtype=np.float32)\n"
        "np.save('y.npy', load_mindir(Path('moved.mindir'))(Tensor(x)).asnumpy())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x = np.random.default_rng(0).standard_normal((4, 3, 16, 16), dtype=np.float32)
    assert np.array_equal(np.load(tmp_path / "y.npy"), make_runner(source)(x))


def test_damaged_files(checkpoint: Path, tmp_path: Path) -> None:
    notes = {"model": "sknet_tiny", "num_classes": 3, "classes": list(CLASSES), "preprocessing": {"image_resize": 16}}
    for form in ("mindir", "onnx"):
        if form == "onnx":
            pytest.importorskip("onnxruntime")
        path = tmp_path / f"bad.{form}"
        path.write_bytes(b"\x08\x96 nothing of the kind")
        (tmp_path / f"bad.{form}.json").write_text(json.dumps(notes))
        with pytest.raises(ValueError, match="not a readable"):
            make_runner(open_source(path))


def test_wrong_logits_are_not_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sknet.deploy import mindir

    monkeypatch.setattr(mindir, "load_mindir", lambda path: lambda x: load_mindir(path)(x) * 1.001)
    with pytest.raises(ExportError, match="logits differ by"):
        export(open_source(checkpoint), "mindir", tmp_path / "net.mindir")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="expected a file that ends in .onnx"):
        export(open_source(checkpoint), "onnx", tmp_path / "net.mindir")
