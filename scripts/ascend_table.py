# SPDX-License-Identifier: Apache-2.0
"""Writes the table of docs/ascend.md from the tiling code itself, through the library that the tests build.

Usage: python scripts/ascend_table.py [--check]
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sknet_ops.backends.ascend_sizes import ConvSizes, Maps  # noqa: E402
from tests.ascend import emulator  # noqa: E402

PAGE = ROOT / "docs" / "ascend.md"
BEGIN, END = "<!-- table: scripts/ascend_table.py -->", "<!-- end of table -->"
# name, channels, height and width, stride, hidden units; 32 groups, two branches of 3 x 3, dilation 1 and 2
STAGES = [
    ("128, 56, 1", 128, 56, 1, 32),
    ("256, 56, 2", 256, 56, 2, 32),
    ("256, 28, 1", 256, 28, 1, 32),
    ("512, 28, 2", 512, 28, 2, 32),
    ("512, 14, 1", 512, 14, 1, 32),
    ("1024, 14, 2", 1024, 14, 2, 64),
    ("1024, 7, 1", 1024, 7, 1, 64),
]
BATCH = 8
# Per second: 910B1, from CANN's public platform file and the figures of DESIGN.md.
HBM, CUBE_MACS = 1.6e12, {"float16": 182e12, "float32": 45.5e12}


def fields(data: bytes, names: str) -> dict[str, int]:
    """Of a tiling structure made of 4-byte integers up to there."""
    values = struct.unpack_from(f"<{len(data) // 4}i", data)
    return dict(zip(names.split(), values, strict=False))


ROWS = "n branches positions channels width rows splits partials"
CONV_TAIL = ("blocks", "kin", "nout", "n_tile", "n_tiles", "k_chunk", "k_chunks", "m_tile", "m_tiles", "taps_step",
             "l1_x", "l1_w", "l0a", "l0b", "l0c", "l0c_buffers")  # fmt: skip


def conv_fields(data: bytes) -> dict[str, int]:
    """The last integers of ConvTiling."""
    count = len(CONV_TAIL)
    return dict(zip(CONV_TAIL, struct.unpack_from(f"<{count}i", data, len(data) - 4 * count), strict=True))


def stage(channels: int, size: int, stride: int) -> ConvSizes:
    return ConvSizes(BATCH, channels, size, size, channels, 32, stride, False, (3, 3), (1, 2), (1, 2))


def conv_work(size: ConvSizes, dtype: str) -> dict[str, int]:
    """What sk_conv moves and multiplies, from its tiling: the counters of a run must say the same."""
    data, blocks = emulator.tiling("sk_conv", [*size.ints, 0], dtype=dtype)
    t, item = conv_fields(data), 2 if dtype == "float16" else 4
    (h_out, w_out), c0 = size.out, 32 // item
    positions, columns = h_out * w_out, t["blocks"] * t["n_tiles"]
    gm_in = macs = mmads = l0a = l0b = 0
    for first in range(0, positions, t["m_tile"]):
        count = min(t["m_tile"], positions - first)
        rows = [first // w_out, (first + count - 1) // w_out]
        reach = []
        for pad, dilation, k in zip(size.padding, size.dilation, size.kernel, strict=True):
            reach.append((max(0, rows[0] * size.stride - pad),
                          min(size.h - 1, rows[1] * size.stride - pad + dilation * (k - 1))))  # fmt: skip
        loaded = max(r[1] for r in reach) - min(r[0] for r in reach) + 1
        gm_in += loaded * size.w * t["kin"] * item
        wide = -(-max(count, 2) // 16) * 16
        for k in size.kernel:
            taps = k * k
            gm_in += taps * t["n_tile"] * t["kin"] * item
            macs += wide * t["n_tile"] * taps * t["kin"]
            mmads += t["kin"] // c0 * -(-taps // t["taps_step"])
            l0a += wide * taps * t["kin"] * item
            l0b += t["n_tile"] * taps * t["kin"] * item
    times = size.n * columns
    out = size.n * size.branches * positions * size.c_out * item
    return {"gm_to_l1": gm_in * times, "cube_macs": macs * times, "mmad": mmads * times, "l1_to_l0a": l0a * times,
            "l1_to_l0b": l0b * times, "l0c_to_gm": out, "blocks": blocks}  # fmt: skip


def rows_work(op: str, maps: Maps, dtype: str) -> dict[str, int]:
    """Bytes of the maps that a vector kernel reads and writes; vectors of one row are left out."""
    reads = {"sk_norm_partial": maps.branches, "sk_norm_act": maps.branches, "sk_select": maps.branches,
             "sk_select_grad": 1 + maps.branches, "sk_branch_grad": 1, "sk_norm_grad_partial": 2 * maps.branches,
             "sk_norm_grad": 2 * maps.branches}[op]  # fmt: skip
    writes = {"sk_norm_partial": 0, "sk_norm_act": maps.branches, "sk_select": 1, "sk_select_grad": 0,
              "sk_branch_grad": maps.branches, "sk_norm_grad_partial": 0, "sk_norm_grad": maps.branches}  # fmt: skip
    one = maps.n * maps.positions * maps.channels * (2 if dtype == "float16" else 4)
    return {"gm_to_ub": reads * one, "ub_to_gm": writes[op] * one}


def rows_ints(op: str, maps: Maps) -> tuple[list[int], list[float]]:
    extra = {"sk_norm_act": [1, 1], "sk_norm_grad_partial": [1, 1], "sk_norm_grad": [1, 1], "sk_branch_grad": [1, 0, 0]}
    return [*maps.ints, *extra.get(op, [])], [1e-5, 0.1]


VECTOR_OPS = ("sk_norm_partial", "sk_norm_act", "sk_select", "sk_select_grad", "sk_branch_grad",
              "sk_norm_grad_partial", "sk_norm_grad")  # fmt: skip


def conv_rows(dtype: str) -> Iterator[str]:
    for name, channels, hw, stride, _ in STAGES:
        size = stage(channels, hw, stride)
        work = conv_work(size, dtype)
        t = conv_fields(emulator.tiling("sk_conv", [*size.ints, 0], dtype=dtype)[0])
        item = 2 if dtype == "float16" else 4
        least = (size.n * size.h * size.w * size.c_in + size.n * 2 * size.out[0] * size.out[1] * size.c_out) * item
        moved = work["gm_to_l1"] + work["l0c_to_gm"]
        macs = work["cube_macs"]
        l1 = 2 * (t["l1_x"] + t["l1_w"])
        yield (f"| {name} | {dtype} | {t['m_tile']} x {t['n_tile']} x {t['kin']} | {work['blocks']} | "
               f"{l1 / 1024:.0f} | {2 * t['l0a'] / 1024:.0f} | {2 * t['l0b'] / 1024:.0f} | "
               f"{t['l0c_buffers'] * t['l0c'] / 1024:.0f} | {least / 1e6:.1f} | {moved / 1e6:.1f} | {macs / 1e9:.2f} | "
               f"{least / HBM * 1e6:.0f} | {macs / CUBE_MACS[dtype] * 1e6:.0f} |")  # fmt: skip


def vector_rows(dtype: str) -> Iterator[str]:
    for name, channels, hw, stride, _ in STAGES:
        size = stage(channels, hw, stride)
        maps = Maps(BATCH, 2, size.out[0] * size.out[1], channels)
        for op in VECTOR_OPS:
            ints, numbers = rows_ints(op, maps)
            data, blocks = emulator.tiling(op, ints, numbers, dtype)
            t, work = fields(data, ROWS), rows_work(op, maps, dtype)
            moved = work["gm_to_ub"] + work["ub_to_gm"]
            yield (f"| {name} | {op} | {dtype} | {t['rows']} x {t['width']} | {blocks} | {moved / 1e6:.1f} | "
                   f"{moved / HBM * 1e6:.0f} |")  # fmt: skip


def table() -> str:
    lines = [
        "Batch 8, both branches. Tile: positions x output channels x packed input channels. Buffers in KiB, double",
        "ones counted twice. MB: the tensors once; moved: what passes between global memory (mostly its cache) and the",
        "core. Limits in microseconds: of memory for the first, of the cube for the padded multiplications.",
        "",
        "| C, H = W, stride | type | tile | cores | L1 | L0A | L0B | L0C | MB | moved MB | G MAC | mem us | cube us |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [row for dtype in ("float16", "float32") for row in conv_rows(dtype)]
    lines += [
        "",
        "The vector kernels of the same stages, float16; tile: rows x channels; MB and limit: the maps alone.",
        "",
        "| C, H = W, stride | kernel | type | tile | cores | MB | memory us |",
        "|---|---|---|---|---|---|---|",
        *vector_rows("float16"),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page is not up to date, write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if check and fresh != page:
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/ascend_table.py")
    if not check:
        PAGE.write_text(fresh)


if __name__ == "__main__":
    main()
