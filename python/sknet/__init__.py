# SPDX-License-Identifier: Apache-2.0
"""Selective Kernel Networks on MindSpore: models, weights, data, training and the command line.

``import sknet`` is cheap; MindSpore is loaded on first use of a name below.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["create_model", "list_models", "load_weights"]


def __getattr__(name: str) -> Any:
    if name in ("create_model", "list_models"):
        from sknet import models

        return getattr(models, name)
    if name == "load_weights":
        from sknet.weights import load_weights

        return load_weights
    raise AttributeError(f"module 'sknet' has no attribute {name!r}")
