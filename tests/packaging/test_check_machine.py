# SPDX-License-Identifier: Apache-2.0
"""scripts/check_machine.sh on machines that lack something, made of a PATH with nothing else on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "check_machine.sh"
PYTHON_AND_COMPILER = "Python 3.10 to 3.12", "a C++17 compiler"


class Machine:
    """A PATH of its own with a few programs."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder
        for name in ("bash", "mktemp", "rm"):
            (folder / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))

    def add(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def check(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "TMPDIR": str(self.bin), **environment}
        return subprocess.run([str(self.bin / "bash"), str(SCRIPT), *arguments], env=env,
                              capture_output=True, text=True)  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


THIS_PYTHON = f'exec "{sys.executable}" "$@"'
OLD_PYTHON = '[ "$1" = --version ] && echo Python 3.9.2; exit 1'
COMPILER = "exit 0"


def test_everything_there(machine: Machine) -> None:
    machine.add("python3", THIS_PYTHON)
    machine.add("g++", COMPILER)
    run = machine.check()
    assert (run.returncode, run.stdout, run.stderr) == (0, "python3\n", "")


def test_all_that_is_missing_is_named_in_one_line(machine: Machine) -> None:
    run = machine.check()
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("missing: ")
    assert run.stderr.count("\n") == 1
    assert all(thing in run.stderr for thing in PYTHON_AND_COMPILER)


def test_another_python_stands_in_for_an_old_one(machine: Machine) -> None:
    machine.add("python3", OLD_PYTHON)
    machine.add("python3.11", THIS_PYTHON)
    machine.add("c++", COMPILER)
    run = machine.check()
    assert (run.returncode, run.stdout) == (0, "python3.11\n")


def test_a_python_asked_for_by_name_is_not_replaced(machine: Machine) -> None:
    machine.add("python3.9", OLD_PYTHON)
    machine.add("python3.11", THIS_PYTHON)
    machine.add("c++", COMPILER)
    run = machine.check("python3.9")
    assert run.returncode == 1
    assert "Python 3.10 to 3.12 (python3.9 is Python 3.9.2" in run.stderr
    assert "compiler" not in run.stderr


@pytest.mark.parametrize("module, named", [("venv", "(python3-venv)"), ("ctypes", "(libgomp1)")])
def test_python_without_a_part(machine: Machine, module: str, named: str) -> None:
    machine.add("python3", f'case "$2" in *"import {module}"*) exit 1;; esac\n{THIS_PYTHON}')
    machine.add("c++", COMPILER)
    run = machine.check()
    assert run.returncode == 1
    assert run.stderr.startswith("missing: ")
    assert named in run.stderr
    assert all(thing not in run.stderr for thing in PYTHON_AND_COMPILER)


def test_compiler_that_cannot_compile(machine: Machine) -> None:
    machine.add("python3", THIS_PYTHON)
    machine.add("g++", "exit 1")
    run = machine.check()
    assert run.returncode == 1
    assert run.stderr == "missing: a C++17 compiler (tried c++, g++, clang++; CXX=... picks another)\n"


def test_compiler_asked_for_by_name(machine: Machine) -> None:
    machine.add("python3", THIS_PYTHON)
    machine.add("g++", COMPILER)
    run = machine.check(CXX="icpx")
    assert run.returncode == 1
    assert "tried icpx;" in run.stderr


def test_leaves_nothing_behind(machine: Machine) -> None:
    before = sorted(os.listdir(machine.bin))
    machine.check()
    assert sorted(os.listdir(machine.bin)) == before
