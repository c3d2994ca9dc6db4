# SPDX-License-Identifier: Apache-2.0
"""From results in JSON to tables, plots and verdicts. Needs matplotlib for the plots and nothing else."""
