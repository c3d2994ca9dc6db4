# SPDX-License-Identifier: Apache-2.0
"""The optimizer that a recipe asks for."""

from __future__ import annotations

from mindspore import nn

from sknet.config import Config


def parameter_groups(net: nn.Cell, weight_decay: float, weight_decay_filter: str) -> list[dict]:
    """MindCV's groups: "disable" decays every parameter, "norm_and_bias" spares norms and biases."""
    params = net.trainable_params()
    order = {"order_params": params}
    if weight_decay_filter == "disable":
        return [{"params": params, "weight_decay": weight_decay}, order]
    spared = [p for p in params if p.name.endswith(("gamma", "beta", "bias"))]
    decayed = [p for p in params if not p.name.endswith(("gamma", "beta", "bias"))]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}, order]


def create_optimizer(net: nn.Cell, config: Config, rates: list[float]) -> nn.Optimizer:
    """Momentum over the parameter groups, its learning rate taken from `rates` step by step."""
    groups = parameter_groups(net, config.weight_decay, config.weight_decay_filter)
    return nn.Momentum(
        groups,
        learning_rate=rates,
        momentum=config.momentum,
        loss_scale=config.loss_scale,
        use_nesterov=config.use_nesterov,
    )
