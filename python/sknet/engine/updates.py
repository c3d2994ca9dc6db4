# SPDX-License-Identifier: Apache-2.0
"""All that a recipe makes of one step: the gradients, the update that they add up to, the average of the weights."""

from __future__ import annotations

import contextlib

import numpy as np
from mindspore import Parameter, Tensor, nn

from sknet.config import Config
from sknet.engine.optimizer import create_optimizer
from sknet.engine.step import LOSSES, AccumulatingStep, GatheredUpdate, TrainStep, WeightAverage


class Updates:
    """Trains `net`, batch by batch.

    With gradient accumulation every `gradient_accumulation_steps`-th step, counted over the whole run, updates the
    parameters, by the mean of the gradients since; its learning rate is that of this last step, as in MindCV.

    Args:
        rates: learning rate of every step of the run.
        ranks: processes that do the same with other images. Gradients are averaged in each step, accumulated or not, so
            that all have the same state.
    """

    def __init__(self, net: nn.Cell, config: Config, rates: list[float], ranks: int = 1) -> None:
        self.every = config.gradient_accumulation_steps
        self.rates = rates
        self.net = net
        optimizer = create_optimizer(net, config, rates[self.every - 1 :: self.every] or rates[-1:])
        loss, clip = LOSSES[config.loss](config.label_smoothing), config.clip_value if config.clip_grad else None
        self.step = TrainStep(net, loss, optimizer, config.loss_scale, clip, ranks)
        self.update = None
        if self.every > 1:
            self.step = AccumulatingStep(self.step, self.every)
            self.update = GatheredUpdate(self.step)
        self.average = WeightAverage(net, config.ema_decay) if config.ema else None

    def __call__(self, number: int, images: np.ndarray, labels: np.ndarray) -> float:
        """The loss of step `number` of the run, counted from 0."""
        loss = float(self.step(Tensor(images), Tensor(labels)).asnumpy())
        if (number + 1) % self.every == 0:
            if self.update:
                self.update()
            if self.average:
                self.average()
        return loss

    def parameters(self) -> list[Parameter]:
        """All that training changes. The optimizer's table of learning rates follows from the recipe."""
        cells = [self.net, self.step, self.update, self.average]
        found = {p.name: p for cell in cells if cell for p in cell.get_parameters()}
        return [parameter for name, parameter in found.items() if name != "learning_rate"]

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """While entered, the network is the one to validate and to save: with averaged weights, if there are any."""
        return self.average.in_place() if self.average else contextlib.nullcontext()
