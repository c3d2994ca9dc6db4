# SPDX-License-Identifier: Apache-2.0
"""A network and photos for it, without training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import pytest

from tests.deploy.networks import write_checkpoint, write_photos


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of sknet_tiny with the sidecar that training writes; classes ant, bee, cat."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder of photos in folders ant, bee and cat, three each."""
    return write_photos(tmp_path / "photos", 3)


@pytest.fixture(autouse=True)
def same_mode_after() -> Iterator[None]:
    """Runners set graph mode; the tests that come next find what was before."""
    mode = ms.get_context("mode")
    yield
    ms.set_context(mode=mode)
