# SPDX-License-Identifier: Apache-2.0
"""The model zoo: ``list_models()`` names them, ``create_model(name)`` builds one."""

from __future__ import annotations

from typing import Any

from sknet.models.catalog import ModelSpec, get_spec, list_models

__all__ = ["ModelSpec", "create_model", "get_spec", "list_models"]


def __getattr__(name: str) -> Any:
    # Building a network needs MindSpore, which takes a second to load; the catalog does not.
    if name == "create_model":
        from sknet.models.factory import create_model

        return create_model
    raise AttributeError(f"module 'sknet.models' has no attribute {name!r}")
