# SPDX-License-Identifier: Apache-2.0
"""Image folders in, batches out."""
