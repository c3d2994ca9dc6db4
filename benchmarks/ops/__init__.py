# SPDX-License-Identifier: Apache-2.0
"""The ops alone, on NumPy arrays, one file an op: ``python -m pytest benchmarks/ops``."""
