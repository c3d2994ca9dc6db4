# SPDX-License-Identifier: Apache-2.0
"""Learning rates, one a step, as MindCV's schedulers compute them."""

from __future__ import annotations

import bisect
import math

from sknet.config import Config


def _factor(config: Config, epochs: float) -> float:
    """What lr is multiplied by, `epochs` after the warm-up; not for cosine_decay, which has a floor of its own."""
    if config.scheduler == "step_decay":
        return config.decay_rate ** (math.floor(epochs) // config.decay_epochs)
    if config.scheduler == "multi_step_decay":
        return config.decay_rate ** bisect.bisect_right(sorted(config.multi_step_decay_milestones), math.floor(epochs))
    if config.scheduler == "polynomial_decay":
        return (1 - epochs / (config.epoch_size - config.warmup_epochs)) ** config.decay_rate
    return 1.0


def learning_rates(config: Config, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step of the run.

    Linear warm-up from lr * warmup_factor over warmup_epochs; then what `scheduler` says: constant; a cosine from lr to
    min_lr over decay_epochs, and min_lr for what is left; times decay_rate every decay_epochs, or at each of the
    multi_step_decay_milestones (epochs after the warm-up); or a polynomial of power decay_rate that ends at 0.
    """
    rates = []
    for step in range(config.epoch_size * steps_per_epoch):
        epoch = step / steps_per_epoch
        after = (step - config.warmup_epochs * steps_per_epoch) / steps_per_epoch
        if after < 0:
            start = config.lr * config.warmup_factor
            rates.append(start + (config.lr - start) * epoch / config.warmup_epochs)
        elif config.scheduler == "cosine_decay":
            share = min(1.0, after / config.decay_epochs)
            rates.append(config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * share)) / 2)
        else:
            rates.append(config.lr * _factor(config, after))
    return rates
