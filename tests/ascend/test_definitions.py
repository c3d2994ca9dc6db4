# SPDX-License-Identifier: Apache-2.0
"""op_host/sk_op_defs.cpp, the file that CANN compiles, against a stand-in for CANN's headers: what it registers, and
what its shape inference and tiling give, are what the tested table gives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.ascend import emulator

HERE = Path(__file__).parent
CANN = HERE / "cann"
FLOAT, HALF = 0, 1
MAPS = [2, 2, 35, 32]
CONV = [2, 32, 5, 7, 32, 8, 1, 5, 7, 2, 0, 3, 3, 1, 2, 1, 2, 0]
# op -> sizes of a call
CALLS = {
    "SkNormPartial": MAPS, "SkNormAct": [*MAPS, 1, 1], "SkNormGradPartial": [*MAPS, 1, 1], "SkNormGrad": [*MAPS, 1, 1],
    "SkSelect": MAPS, "SkSelectGrad": MAPS, "SkBranchGrad": [*MAPS, 1, 1, 16], "SkAttentionHidden": [*MAPS, 1, 16],
    "SkAttentionSelect": [*MAPS, 1, 16], "SkAttentionGrad": [*MAPS, 1, 16], "SkPackWeight": CONV, "SkConv": CONV,
    "SkConvWeightGrad": CONV, "SkUnpackWeightGrad": CONV,
}  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("definitions") / "definitions"
    host = emulator.ASCEND / "op_host"
    sources = [host / "sk_op_defs.cpp", CANN / "definitions.cc", *sorted(host.glob("*.cc"))]
    flags = [flag for flag in emulator.flags() if flag not in ("-O2", "-fPIC")]
    command = [emulator.compiler(), *flags, "-O0", f"-I{CANN}", *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def called(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)[1:]


def test_what_is_registered(program: Path) -> None:
    ops = emulator.ops()
    entries = [json.loads(line) for line in called(program).stdout.splitlines()]
    assert {snake(entry["op"]) for entry in entries} == ops.keys()
    for entry in entries:
        inputs, outputs = ops[snake(entry["op"])]
        assert [name for name, *_ in entry["inputs"]] == inputs
        assert [name for name, *_ in entry["outputs"]] == outputs
        assert all(types in ([HALF, FLOAT], [FLOAT, FLOAT]) for _, *types in entry["inputs"] + entry["outputs"])
        assert entry["attrs"] == ["sizes ints", "numbers floats"]
        assert entry["config"] == "ascend910b"


@pytest.mark.parametrize("op", CALLS)
def test_shapes_types_and_tiling(op: str, program: Path) -> None:
    got = json.loads(called(program, op, *map(str, CALLS[op])).stdout)
    entry = next(e for e in map(json.loads, called(program).stdout.splitlines()) if e["op"] == op)
    name, numbers = snake(op), (1e-5, 0.1)
    # The attention's ops have no map among their tensors: they compute in float.
    kind = "float16" if any(types == [HALF, FLOAT] for _, *types in entry["inputs"] + entry["outputs"]) else "float32"
    data, blocks = emulator.tiling(name, CALLS[op], numbers, kind)
    assert got["blocks"] == blocks and got["workspace"] == 16 << 20
    assert bytes.fromhex(got["tiling"]) == data
    assert [tuple(shape) for shape in got["shapes"]] == emulator.output_shapes(name, CALLS[op], numbers, kind)
    assert got["types"] == [half for _, half, _ in entry["outputs"]]


def test_a_refusal_is_printed_not_thrown(program: Path) -> None:
    done = called(program, "SkSelect", "2", "2", "35", "20")
    assert done.returncode == 1
    assert "sknet_ops: " in done.stderr and "channels: got 20, expected a multiple of 16" in done.stderr
