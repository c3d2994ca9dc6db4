# SPDX-License-Identifier: Apache-2.0
"""Rows as a table for the eye, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

FORMATS = ("table", "json", "csv")


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns as wide as their widest value; numbers to the right."""
    columns = list(rows[0]) if rows else []
    cells = [[_cell(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    right = [not isinstance(rows[0][c], str) for c in columns]
    lines = [columns, *cells]
    return "\n".join(
        "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    )


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def render(rows: Sequence[dict[str, Any]], form: str) -> str:
    """All rows, which have the same keys, in one of FORMATS."""
    return {"table": as_table, "csv": as_csv, "json": lambda r: json.dumps(list(r), indent=1)}[form](rows)
