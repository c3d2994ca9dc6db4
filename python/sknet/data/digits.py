# SPDX-License-Identifier: Apache-2.0
"""Scikit-learn's handwritten digits (1797 grey images of 8x8) as an image folder.

    python -m sknet.data.digits OUT_DIR      writes OUT_DIR/{train,val}/{0..9}/*.png, unless it is there already

Source: UCI ML hand-written digits, the test set of E. Alpaydin and C. Kaynak, bundled with scikit-learn.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np

VAL_SHARE = 0.2
_TOTAL = 1797


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*/*/*.png"))


def write_digits(out_dir: str | os.PathLike) -> Path:
    """Write the folder, whole or not at all; what a former call wrote is left as it is.

    A fifth of each class, the same at every call, goes to val.

    Raises:
        ValueError: out_dir exists and holds something else.
        ImportError: scikit-learn or Pillow is not installed.
    """
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if out.is_dir() and _count(out) == _TOTAL:
            return out
        raise ValueError(f"OUT_DIR: {out} exists and is not the digits image folder; name another or remove it")
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        for label in range(10):
            indices = np.flatnonzero(digits.target == label)
            indices = np.random.default_rng(label).permutation(indices)
            val_count = round(VAL_SHARE * len(indices))
            for i, index in enumerate(indices):
                folder = partial / ("val" if i < val_count else "train") / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:04d}.png")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sknet.data.digits", description=__doc__.split("\n\n")[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", help="folder to write")
    out_dir = parser.parse_args(argv).out_dir
    try:
        out = write_digits(out_dir)
    except ImportError as error:
        print(f"error: {error}; install it with: pip install scikit-learn pillow", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {_count(out)} images in train and val")
    return 0


if __name__ == "__main__":
    sys.exit(main())
