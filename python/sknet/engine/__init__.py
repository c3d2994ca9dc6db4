# SPDX-License-Identifier: Apache-2.0
"""Training and validation."""

from sknet.engine.evaluate import Scores, evaluate, validate
from sknet.engine.trainer import TrainingError, train

__all__ = ["Scores", "TrainingError", "evaluate", "train", "validate"]
