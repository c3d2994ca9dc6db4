# SPDX-License-Identifier: Apache-2.0
"""What runs, times and compares the contestants."""
