# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: MindCV checkpoints, timm safetensors, dicts of arrays."""

from sknet.weights.download import DownloadError
from sknet.weights.loading import load_weights
from sknet.weights.reading import local_file, read_weights

__all__ = ["DownloadError", "load_weights", "local_file", "read_weights"]
