# SPDX-License-Identifier: Apache-2.0
"""Microbenchmarks against other frameworks: docs/benchmarks.md says how to run and read them."""
