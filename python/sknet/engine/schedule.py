# SPDX-License-Identifier: Apache-2.0
"""Learning rates, one a step, as MindCV's schedulers compute them."""

from __future__ import annotations

import math

from sknet.config import Config


def learning_rates(config: Config, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step of the run.

    Linear warm-up from lr * warmup_factor over warmup_epochs; then constant, or a cosine from lr to min_lr over
    decay_epochs, and min_lr for what is left.
    """
    rates = []
    for step in range(config.epoch_size * steps_per_epoch):
        epoch = step / steps_per_epoch
        if epoch < config.warmup_epochs:
            start = config.lr * config.warmup_factor
            rates.append(start + (config.lr - start) * epoch / config.warmup_epochs)
        elif config.scheduler == "constant":
            rates.append(config.lr)
        else:
            share = min(1.0, (epoch - config.warmup_epochs) / config.decay_epochs)
            rates.append(config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * share)) / 2)
    return rates
