# SPDX-License-Identifier: Apache-2.0
"""The model zoo: ``list_models()`` names them, ``create_model(name)`` builds one."""
from sknet.models.catalog import ModelSpec, get_spec, list_models
from sknet.models.factory import create_model

__all__ = ["ModelSpec", "create_model", "get_spec", "list_models"]
