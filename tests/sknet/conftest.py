# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the sknet tests."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

_REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_REPO / "python"))


@pytest.fixture(scope="session")
def golden_dir(shared_dir: Path) -> Path:
    """Folder of timm's results; skips where a clone comes without it."""
    path = shared_dir / "golden"
    if not path.is_dir():
        pytest.skip(f"no folder {path}")
    return path


@pytest.fixture
def graph_mode() -> Iterator[None]:
    """Graph mode during a test, whatever it sets itself; then what was before."""
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=before)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes random images: image_folder(splits={"train": 6, "val": 3}, classes=("a", "b"), size=(24, 20))."""
    from PIL import Image

    def write(
        splits: dict[str, int],
        classes: tuple[str, ...] = ("a", "b"),
        size: tuple[int, int] = (24, 20),
        mode: str = "RGB",
        suffix: str = ".png",
        seed: int = 0,
    ) -> Path:
        rng = np.random.default_rng(seed)
        root = tmp_path / f"images_{mode}_{seed}"
        for split, count in splits.items():
            for label, name in enumerate(classes):
                folder = root / split / name
                folder.mkdir(parents=True)
                for i in range(count):
                    # Brightness tells the class, so that a few steps can learn it.
                    level = 40 + 150 * label // max(1, len(classes) - 1)
                    pixels = np.clip(rng.normal(level, 20, (*size, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).convert(mode).save(folder / f"{i:03d}{suffix}")
        return root

    return write


@pytest.fixture
def recipe_of_seconds(image_folder: Callable[..., Path], tmp_path: Path, graph_mode: None) -> Callable[..., Callable]:
    """recipe_of_seconds(splits, ...) gives settings(name, ...): in PyNative mode, which compiles nothing.

    `splits` goes to image_folder; what else the recipe sets is for every run, `name` one run's folder.
    """
    from sknet.config import Config, load_config

    def recipe(splits: dict[str, int], **defaults) -> Callable[..., Config]:
        common = {
            "data_dir": str(image_folder(splits)),
            "mode": 1,
            "model": "sknet_tiny",
            "image_resize": 12,
            "decay_epochs": 2,
            "lr": 0.05,
            **defaults,
        }

        def settings(name: str, **values) -> Config:
            return load_config(None, **{**common, "ckpt_save_dir": str(tmp_path / name), **values})

        return settings

    return recipe
