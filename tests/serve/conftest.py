# SPDX-License-Identifier: Apache-2.0
"""A network and photos for it, without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.networks import write_checkpoint, write_photos


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of sknet_tiny with the sidecar that training writes; classes ant, bee, cat."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder of photos in folders ant, bee and cat, eight each."""
    return write_photos(tmp_path / "photos", 8)
