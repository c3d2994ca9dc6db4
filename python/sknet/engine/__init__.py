# SPDX-License-Identifier: Apache-2.0
"""Training and validation."""

from sknet.engine.evaluate import Scores, evaluate, validate
from sknet.engine.parallel import GroupError
from sknet.engine.trainer import TrainingError, train

__all__ = ["GroupError", "Scores", "TrainingError", "evaluate", "train", "validate"]
