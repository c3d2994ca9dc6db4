# SPDX-License-Identifier: Apache-2.0
"""`make ascend` with MindSpore's own custom_compiler and a stand-in for CANN: a project template whose build compiles
the host's sources as they lie there, and packs what it was given."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ascend import emulator

SCRIPT = emulator.ROOT / "scripts" / "build_ascend.sh"
TEMPLATE = Path("tools/op_project_templates/ascendc")
# CANN's build: here, only whether every include is found and the code is C++, and what came.
BUILD = r"""
set -e
for source in op_host/*.cpp; do
  case $source in */sk_op_defs.cpp) continue ;; esac
  "$CXX" -std=c++17 -O0 -fsyntax-only -Iop_host "$source"
done
mkdir -p build_out
cat > build_out/custom_opp.run <<'END'
package="$ASCEND_CUSTOM_OPP_PATH/vendors/sknet_ops"
mkdir -p "$package"
END
echo "(cd '$PWD' && ls op_host op_kernel && cat CMakePresets.json) > \"\$package/contents\"" >> build_out/custom_opp.run
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a call of the script, with a stand-in for CANN."""
    customize = tmp_path / "cann" / TEMPLATE / "customize"
    for folder in (customize / "op_host", customize / "op_kernel", customize.parent / "common"):
        folder.mkdir(parents=True)
    (customize / "build.sh").write_text(BUILD)
    (customize / "op_host" / "add_custom.cpp").write_text("a sample that has to go")
    variables = {name: {"value": ""} for name in ("ASCEND_CANN_PACKAGE_PATH", "ASCEND_COMPUTE_UNIT", "vendor_name")}
    presets = {"configurePresets": [{"cacheVariables": variables}]}
    (customize / "CMakePresets.json").write_text(json.dumps(presets))
    without = {k: v for k, v in os.environ.items() if k not in ("ASCEND_TOOLKIT_HOME", "SOC_VERSION")}
    return {**without, "ASCEND_HOME_PATH": str(tmp_path / "cann"), "CXX": emulator.compiler(),
            "SKNET_OPS_ASCEND_OUT": str(tmp_path / "out")}  # fmt: skip


def run(environment: dict[str, str], python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), python], env=environment, capture_output=True, text=True, check=False)


def test_the_package_is_built_and_installed(environment: dict[str, str]) -> None:
    mindspore = Path(importlib.util.find_spec("mindspore").origin).parent
    if not (mindspore / "lib/plugin/ascend/custom_compiler").is_dir():
        pytest.skip("this MindSpore has no custom_compiler")
    done = run(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("vendors/sknet_ops\n")
    contents = Path(environment["SKNET_OPS_ASCEND_OUT"], "vendors", "sknet_ops", "contents").read_text()
    for op in emulator.ops():
        assert f"{op}.cpp" in contents
    for name in ("sk_op_defs.cpp", "sk_tiling_conv.cpp", "params.h", "sk_tiling_data.h"):
        assert name in contents
    assert "add_custom.cpp" not in contents
    assert '"value": "ascend910b"' in contents and '"value": "sknet_ops"' in contents


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ASCEND_HOME_PATH": ""}, "no CANN toolkit: install CANN 8.2 or later"),
        ({"ASCEND_HOME_PATH": "/nowhere"}, "ASCEND_HOME_PATH is /nowhere, which is no folder"),
        ({"ASCEND_HOME_PATH": str(emulator.ROOT)}, "has no template of operator projects"),
        ({"SOC_VERSION": "Ascend310P3"}, "SOC_VERSION: got Ascend310P3, expected a chip of the Ascend 910B family"),
    ],
    ids=str,
)
def test_what_is_missing_is_one_line(change: dict[str, str], message: str, environment: dict[str, str]) -> None:
    done = run({**environment, **change})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("make ascend: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_a_python_without_mindspore_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    assert run(environment, str(other)).stderr == f"make ascend: {other} has no MindSpore\n"
