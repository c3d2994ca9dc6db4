# SPDX-License-Identifier: Apache-2.0
"""What an image folder ROOT/SPLIT/CLASS/IMAGE holds, checked before anything is trained on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# What MindSpore's decoder reads. Both cases are listed: ImageNet's files end in .JPEG.
EXTENSIONS = tuple(e for s in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff") for e in (s, s.upper()))


class DataError(ValueError):
    """A data set that cannot be used, with the reason."""


@dataclass(frozen=True)
class ImageFolder:
    """One split.

    Attributes:
        path: ROOT/SPLIT.
        classes: names of all classes; a label is the place in this list.
        present: names of those classes that this split holds images of.
    """

    path: Path
    classes: tuple[str, ...]
    present: tuple[str, ...]

    @classmethod
    def open(cls, root: str | os.PathLike, split: str, classes: Sequence[str] | None = None) -> ImageFolder:
        """Look at a split. Every class folder must hold an image.

        Args:
            root: folder of the data set.
            split: name of the split's folder, such as "train" or "val".
            classes: names of all classes, in the order of the labels; by default this split's own, sorted.

        Raises:
            DataError: no such folder, no class folder, an empty one, or one that `classes` does not name.
        """
        root, path = Path(root), Path(root) / split
        if not root.is_dir():
            raise DataError(f"data_dir: no folder {root}")
        if not path.is_dir():
            found = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise DataError(
                f"data_dir: {root} has no folder {split!r}; it has {', '.join(found) or 'no folders'}. "
                f"Expected {path}/CLASS/IMAGE"
            )
        present = tuple(sorted(p.name for p in path.iterdir() if p.is_dir()))
        if not present:
            raise DataError(f"data_dir: {path} has no class folders; expected {path}/CLASS/IMAGE")
        empty = [name for name in present if not _holds_image(path / name)]
        if empty:
            raise DataError(
                f"data_dir: no image in {', '.join(str(path / name) for name in empty[:5])}"
                f"{f' and {len(empty) - 5} more' if len(empty) > 5 else ''}; "
                f"expected files that end in {', '.join(EXTENSIONS[::2])}"
            )
        if classes is None:
            classes = present
        unknown = sorted(set(present) - set(classes))
        if unknown:
            raise DataError(
                f"data_dir: {path} has class folders that training does not know: "
                f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}"
            )
        return cls(path, tuple(classes), present)

    def samples(self) -> tuple[list[str], np.ndarray]:
        """Paths of all images, sorted within the classes, and their labels (n,) int32."""
        labels = {name: i for i, name in enumerate(self.classes)}
        files, numbers = [], []
        for name in self.present:
            found = sorted(
                os.path.join(at, file)
                for at, _, names in os.walk(self.path / name)
                for file in names
                if file.endswith(EXTENSIONS)
            )
            files += found
            numbers += [labels[name]] * len(found)
        return files, np.array(numbers, np.int32)


def _holds_image(folder: Path) -> bool:
    return any(name.endswith(EXTENSIONS) for _, _, names in os.walk(folder) for name in names)


def check_num_classes(num_classes: int | None, folder: ImageFolder) -> int:
    """The classifier's width: the number of class folders, which `num_classes`, if given, must equal."""
    found = len(folder.classes)
    if num_classes is not None and num_classes != found:
        raise DataError(
            f"num_classes: {num_classes} given, but {folder.path} has {found} class folders; give --num_classes {found}"
        )
    return found
