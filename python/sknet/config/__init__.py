# SPDX-License-Identifier: Apache-2.0
"""Recipes: YAML files and command-line options under MindCV's keys."""

from sknet.config.options import Config, ConfigError
from sknet.config.parsing import load_config, parse_args, save_config

__all__ = ["Config", "ConfigError", "load_config", "parse_args", "save_config"]
