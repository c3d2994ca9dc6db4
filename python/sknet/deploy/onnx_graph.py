# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph that is written node by node, with batch norms folded into the convolutions before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn

from sknet.deploy.optional import require

OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name, and channels, height and width of one image."""

    name: str
    channels: int
    height: int
    width: int


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the convolution that computes norm(conv(x)) in inference, float32, folded in float64."""
    gamma, beta, mean, variance = (
        getattr(norm, name).asnumpy().astype(np.float64) for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + float(norm.eps))
    weight = conv.weight.asnumpy().astype(np.float64) * scale[:, None, None, None]
    bias = beta - mean * scale
    if conv.has_bias:
        bias = bias + conv.bias.asnumpy().astype(np.float64) * scale
    return weight.astype(np.float32), bias.astype(np.float32)


class GraphWriter:
    """Nodes and initialisers of standard ONNX operators (opset 17); each method returns the new tensor's name."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "deploy")
        self._nodes: list[Any] = []
        self._initialisers: dict[str, Any] = {}

    def node(self, op: str, name: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node called `name`; the names of its outputs."""
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def constant(self, name: str, array: np.ndarray) -> str:
        self._initialisers[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def conv(
        self,
        name: str,
        x: Value,
        weight: np.ndarray,
        bias: np.ndarray,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = False,
        residual: Value | None = None,
    ) -> Value:
        """relu(conv(x) + residual), the last two if asked for."""
        kernel = weight.shape[-1]
        y = self.node(
            "Conv",
            f"{name}.conv",
            [x.name, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)],
            kernel_shape=[kernel, kernel],
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
            group=groups,
        )
        if residual is not None:
            y = self.node("Add", f"{name}.add", [*y, residual.name])
        if relu:
            y = self.node("Relu", f"{name}.relu", y)
        span = dilation * (kernel - 1) + 1
        height, width = ((side + 2 * padding - span) // stride + 1 for side in (x.height, x.width))
        return Value(y[0], weight.shape[0], height, width)

    def pool(self, op: str, name: str, x: Value, kernel: int, stride: int, padding: int | None, **extra: Any) -> Value:
        """MaxPool or AveragePool; padding None is MindSpore's "same": what is missing, the larger part at the end."""
        if padding is None:
            height, width = -(-x.height // stride), -(-x.width // stride)
            missing = [
                max((out - 1) * stride + kernel - side, 0) for out, side in ((height, x.height), (width, x.width))
            ]
            pads = [m // 2 for m in missing] + [m - m // 2 for m in missing]
        else:
            pads = [padding] * 4
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (x.height, x.width))
        (y,) = self.node(op, name, [x.name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, **extra)
        return Value(y, x.channels, height, width)

    def model(self, images: Value, logits: str, num_classes: int, about: dict[str, str]) -> Any:
        """The checked model, from (batch, c, h, w) to (batch, num_classes)."""
        onnx = self._onnx
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self._nodes,
            "sknet",
            [info(images.name, onnx.TensorProto.FLOAT, ["batch", images.channels, images.height, images.width])],
            [info(logits, onnx.TensorProto.FLOAT, ["batch", num_classes])],
            list(self._initialisers.values()),
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sknet-ops")
        onnx.helper.set_model_props(model, about)
        onnx.checker.check_model(model, full_check=True)
        return model
