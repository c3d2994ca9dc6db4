# SPDX-License-Identifier: Apache-2.0
"""A network as an HTTP service."""
