# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what it should and works in an environment of its own."""

from __future__ import annotations

import email
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HAS_PYTHON_HEADERS, ROOT
from tests.packaging.conftest import Wheel


def files_of(folder: Path) -> Iterator[Path]:
    """Every file, through links too, that no build and no run has made."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(parent, name) for name in names if not name.endswith((".so", ".pyc", ".new")))


def test_contents(wheel: Wheel) -> None:
    expected = {f"{package}/{path.relative_to(folder)}"
                for package, folder in (("sknet_ops", ROOT / "sknet_ops"), ("sknet", ROOT / "python" / "sknet"))
                for path in files_of(folder)}  # fmt: skip
    assert any(name.startswith("sknet/configs/") for name in expected)
    expected |= {"sknet_ops/lib/libsknet_ops.so", "sknet/data/imagenet_classes.txt"}
    if HAS_PYTHON_HEADERS:
        expected.add(f"sknet_ops/_native{sysconfig.get_config_var('EXT_SUFFIX')}")
    files = {str(path.relative_to(wheel.unpacked)) for path in wheel.unpacked.rglob("*") if path.is_file()}
    assert {name for name in files if ".dist-info/" not in name} == expected


def test_name_says_what_it_runs_on(wheel: Wheel) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.path.name.endswith(f"-{python}-{python}-linux_{platform.machine()}.whl")


def test_metadata(wheel: Wheel) -> None:
    (folder,) = wheel.unpacked.glob("*.dist-info")
    metadata = email.message_from_string((folder / "METADATA").read_text())
    assert metadata["Name"] == "sknet-ops"
    assert metadata["Requires-Python"] == "<3.13,>=3.10"
    needs = metadata.get_all("Requires-Dist")
    assert "numpy<2,>=1.25" in needs
    assert "mindspore<2.11,>=2.7" in needs
    assert (folder / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.fixture(scope="module")
def fresh(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are this environment's, reached through a .pth line."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = ["--disable-pip-version-check", "install", "--no-deps", "--no-index", str(wheel.path)]
    run = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install],
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run_in(fresh: Path, *command: str, **environment: str) -> str:
    """Output of a program of the fresh environment, run outside of the checkout."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SKNET_OPS_"))}
    run = subprocess.run([str(fresh / "bin" / command[0]), *command[1:]], capture_output=True, text=True,
                         cwd=fresh, env=inherited | environment)  # fmt: skip
    assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def run_layer(fresh: Path, mode: str, isa: str) -> list[float]:
    """Loss and sums of the gradients. The program is copied, lest the checkout be found beside it."""
    program = shutil.copy(Path(__file__).parent / "layer_program.py", fresh)
    label, name, *values = run_in(fresh, "python", program, mode, SKNET_OPS_ISA=isa).splitlines()[-1].split()
    assert (label, name) == ("results", isa)
    return [float(value) for value in values]


def test_layer_in_a_fresh_environment(fresh: Path) -> None:
    """Forward and backward in both modes, on the least instruction set and on the best: the same numbers."""
    best = run_in(fresh, "python", "-c", "import sknet_ops; print(sknet_ops.active_isa())").split()[-1]
    expected = run_layer(fresh, "GRAPH_MODE", "scalar")
    assert len(expected) == 2 + 10
    assert all(value > 0 for value in expected)
    assert run_layer(fresh, "PYNATIVE_MODE", best) == pytest.approx(expected, rel=1e-4)


def test_numpy_module_in_a_fresh_environment(wheel: Wheel, fresh: Path) -> None:
    """It finds the library by its own place alone, and needs no MindSpore."""
    (native,) = fresh.glob(f"lib/*/site-packages/sknet_ops/{wheel.native.name}")
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("sknet_ops._native", {str(native)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import numpy as np
u = np.arange(16, dtype=np.float32).reshape(1, 2, 2, 2, 2)
print(module.sk_select(u=u, attention=np.full((1, 2, 2), 0.5, np.float32))["y"].sum())
"""
    assert float(run_in(fresh, "python", "-c", code)) == 60.0


def test_commands_in_a_fresh_environment(fresh: Path) -> None:
    assert "train" in run_in(fresh, "sknet", "--help")
    assert "cpu" in run_in(fresh, "python", "-m", "sknet_ops.info")
