# SPDX-License-Identifier: Apache-2.0
"""What the SK units of a network attend to, as in section 4.4 of the paper (arXiv 1903.06586)."""

from sknet.attention.figures import plot_by_class, plot_by_image
from sknet.attention.measure import AttentionProbe, Measurement, measure, summarise, units_of, write_csv

__all__ = [
    "AttentionProbe",
    "Measurement",
    "measure",
    "plot_by_class",
    "plot_by_image",
    "summarise",
    "units_of",
    "write_csv",
]
