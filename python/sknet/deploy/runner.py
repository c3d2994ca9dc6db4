# SPDX-License-Identifier: Apache-2.0
"""A network that runs: (n, 3, size, size) float32 in, logits (n, classes) float32 out, any n from 1.

A runner is used on the thread that made it; MindSpore is not safe across threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sknet.deploy.optional import require
from sknet.deploy.source import Source

Runner = Callable[[np.ndarray], np.ndarray]


def build_network(source: Source):
    """The cell, in inference mode, with the weights of the source or, if it has none, random ones from a fixed seed."""
    import mindspore as ms

    import sknet_ops
    from sknet.models import create_model

    ms.set_seed(0)
    np.random.seed(0)
    net = create_model(source.model, source.num_classes, checkpoint_path=source.path)
    net.set_train(False)
    return sknet_ops.freeze(net, constant=True)


class NativeRunner:
    """The network itself, in graph mode, compiled once for all batch sizes."""

    def __init__(self, source: Source) -> None:
        import mindspore as ms

        ms.set_context(mode=ms.GRAPH_MODE)
        self.net = build_network(source)
        size = source.preprocessing.image_resize
        self.net.set_inputs(ms.Tensor(shape=[None, 3, size, size], dtype=ms.float32))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        from mindspore import Tensor

        return self.net(Tensor(images)).asnumpy()


class MindirRunner:
    """An exported MindIR."""

    def __init__(self, path: Path) -> None:
        from sknet.deploy.mindir import load_mindir

        self.net = load_mindir(path)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        from mindspore import Tensor

        return self.net(Tensor(images)).asnumpy()


class OnnxRunner:
    """An exported ONNX file in ONNX Runtime, on the processors that this process may use."""

    def __init__(self, path: Path) -> None:
        onnxruntime = require("onnxruntime", "deploy")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise ValueError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from error

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"images": images})[0]


def make_runner(source: Source) -> Runner:
    """The runner of a source's form.

    Raises:
        MissingPackageError: ONNX without ONNX Runtime.
        ValueError: a damaged file, or weights that do not fit.
    """
    if source.form == "native":
        return NativeRunner(source)
    return (MindirRunner if source.form == "mindir" else OnnxRunner)(source.path)
