# SPDX-License-Identifier: Apache-2.0
"""The optimizer that a recipe asks for."""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

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


class Nesterov(nn.Optimizer):
    """Momentum that looks ahead: v = momentum * v + g; the update is g + momentum * v.

    MindSpore's own kernel takes use_nesterov on CPU, and does plain momentum.
    """

    def __init__(self, groups: list[dict], rates: list[float], momentum: float, loss_scale: float) -> None:
        super().__init__(rates, groups)  # a loss_scale here would multiply the weight decay
        self.unscale = 1 / loss_scale
        self.momentum = momentum
        self.moments = self.parameters.clone("moments", "zeros")

    def construct(self, gradients: tuple[Tensor, ...]) -> bool:
        rate, decays = self.get_lr(), self.get_weight_decay()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        done = True
        for i in range(len(self.parameters)):
            parameter = self.parameters[i]
            gradient = gradients[i] * self.unscale + decays[i] * parameter
            velocity = self.momentum * self.moments[i] + gradient
            step = rate * (gradient + self.momentum * velocity)
            done = ops.depend(done, ops.assign(self.moments[i], velocity))
            done = ops.depend(done, ops.assign_sub(parameter, step))
        return done


class Adaptive(nn.Optimizer):
    """AdamW (arXiv 1711.05101) and, with `trust_ratio`, LAMB (arXiv 1904.00962). Biases of the means are corrected.

    The update is m / (sqrt(v) + eps) + weight_decay * parameter; LAMB scales each parameter's to the parameter's norm.
    """

    def __init__(
        self,
        groups: list[dict],
        rates: list[float],
        beta1: float,
        beta2: float,
        eps: float,
        loss_scale: float,
        trust_ratio: bool,
    ) -> None:
        super().__init__(rates, groups)  # a loss_scale here would multiply the weight decay
        self.unscale = 1 / loss_scale
        self.beta1, self.beta2, self.eps, self.trust_ratio = beta1, beta2, eps, trust_ratio
        # 1 - beta ** count by way of expm1, which loses no digits where beta is near 1.
        self.log1, self.log2 = (math.log(max(beta, 1e-300)) for beta in (beta1, beta2))
        self.moments1 = self.parameters.clone("moment1", "zeros")
        self.moments2 = self.parameters.clone("moment2", "zeros")
        self.count = Parameter(Tensor(0.0, ms.float32), name="updates")

    def construct(self, gradients: tuple[Tensor, ...]) -> bool:
        rate, decays = self.get_lr(), self.get_weight_decay()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        count = ops.assign_add(self.count, Tensor(1.0, ms.float32))
        correction1, correction2 = -ops.expm1(count * self.log1), -ops.expm1(count * self.log2)
        done = True
        for i in range(len(self.parameters)):
            parameter, gradient = self.parameters[i], gradients[i] * self.unscale
            m = self.beta1 * self.moments1[i] + (1 - self.beta1) * gradient
            v = self.beta2 * self.moments2[i] + (1 - self.beta2) * gradient * gradient
            update = (m / correction1) / (ops.sqrt(v / correction2) + self.eps) + decays[i] * parameter
            step = rate * update
            if self.trust_ratio:
                size, norm = ops.sqrt(ops.sum(parameter * parameter)), ops.sqrt(ops.sum(update * update))
                fits = ops.logical_and(size > 0, norm > 0)
                step = step * ops.select(fits, size / ops.select(fits, norm, ops.ones_like(norm)), ops.ones_like(norm))
            done = ops.depend(done, ops.assign(self.moments1[i], m))
            done = ops.depend(done, ops.assign(self.moments2[i], v))
            done = ops.depend(done, ops.assign_sub(parameter, step))
        return done


def create_optimizer(net: nn.Cell, config: Config, rates: list[float]) -> nn.Optimizer:
    """The recipe's optimizer over the parameter groups, its learning rate taken from `rates` update by update."""
    groups = parameter_groups(net, config.weight_decay, config.weight_decay_filter)
    if config.opt in ("adamw", "lamb"):
        return Adaptive(groups, rates, config.beta1, config.beta2, config.eps, config.loss_scale, config.opt == "lamb")
    if config.use_nesterov or config.opt == "nesterov":
        return Nesterov(groups, rates, config.momentum, config.loss_scale)
    return nn.Momentum(groups, learning_rate=rates, momentum=config.momentum, loss_scale=config.loss_scale)
