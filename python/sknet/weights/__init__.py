# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: MindCV checkpoints, timm safetensors, dicts of arrays."""

from sknet.weights.loading import load_weights
from sknet.weights.reading import read_weights

__all__ = ["load_weights", "read_weights"]
