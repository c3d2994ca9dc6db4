# SPDX-License-Identifier: Apache-2.0
"""Tests of the CUDA kernels. None needs a GPU: they are compiled, planned for and emulated."""
