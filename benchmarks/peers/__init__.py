# SPDX-License-Identifier: Apache-2.0
"""The contestants, one plug-in a file.

A plug-in is a module that a worker process imports, with

- ``why_not() -> str | None``: None if it can run here, else the reason in words;
- ``versions() -> dict[str, str]``: of what it runs on;
- ``variants(case, threads) -> dict[str, Callable]``: settings to choose from, each a function that makes the call to be
  timed. The worker takes the fastest, so that every contestant runs its best configuration. ``Unsupported`` for a case
  that it does not have.
- ``to_numpy(result) -> numpy.ndarray``: the (first) output of such a call; waits until it has been computed.
"""
