# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with weights that hide nothing, and random photos."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import sknet
from mindspore import Tensor, nn
from PIL import Image
from sknet.config import load_config
from sknet.engine.checkpoint import save_checkpoint

CLASSES = ("ant", "bee", "cat")


def vary(net: nn.Cell, seed: int) -> None:
    """Norms that change what they get and are small, so that values neither vanish nor grow from block to block."""
    rng = np.random.default_rng(seed)
    for p in net.get_parameters():
        if p.name.endswith("gamma"):
            value = rng.uniform(0.4, 0.8, p.shape)
        elif p.name.endswith("moving_variance"):
            value = rng.uniform(0.5, 1.5, p.shape)
        elif p.ndim == 1:
            value = 0.1 * rng.standard_normal(p.shape)
        elif p.name.startswith("classifier"):
            value = rng.standard_normal(p.shape)  # answers that differ clearly
        else:
            continue
        p.set_data(Tensor(value.astype(np.float32)))
    net.set_train(False)


def write_checkpoint(path: Path) -> Path:
    net = sknet.create_model("sknet_tiny", num_classes=len(CLASSES))
    vary(net, 1)
    config = load_config(None, model="sknet_tiny", image_resize=16, crop_pct=0.8, interpolation="bicubic")
    info = {"model": "sknet_tiny", "classes": list(CLASSES), "config": dataclasses.asdict(config)}
    save_checkpoint(net, path, info)
    return path


def write_photos(root: Path, count: int) -> Path:
    """root/CLASS/*.png and *.jpg of several sizes, grey ones among them."""
    rng = np.random.default_rng(2)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(count):
            size = (int(rng.integers(18, 60)), int(rng.integers(18, 60)), 3)
            pixels = np.clip(rng.normal(rng.uniform(40, 200, 3), 60, size), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels).convert("L" if i == 1 else "RGB")
            image.save(root / name / f"{i}.{'jpg' if i % 2 else 'png'}")
    return root
