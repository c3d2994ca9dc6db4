# SPDX-License-Identifier: Apache-2.0
"""The rules of docs/architecture.md about who may use whom, read from the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

CSRC = ROOT / "csrc"
BACKENDS = sorted({path.name for path in CSRC.iterdir() if path.is_dir()} - {"include", "common", "bindings"})
# What the files of a folder may include besides each other and include/. So no backend includes another.
MAY_INCLUDE = {
    "include": [],
    "common": [],
    **{backend: ["common"] for backend in BACKENDS},
    "bindings": ["common", "pybind11", *BACKENDS],
}


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import; name is None for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def python_files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def public_names(module: str) -> set[str]:
    """`__all__` of a module of sknet_ops, read without importing it."""
    path = ROOT / Path(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


def test_ops_import_mindspore_and_numpy_only() -> None:
    allowed = {"sknet_ops", "mindspore", "numpy"} | set(sys.stdlib_module_names)
    wrong = [(path.relative_to(ROOT).as_posix(), module) for path in python_files("sknet_ops")
             for module, _ in imports(path) if module.partition(".")[0] not in allowed]  # fmt: skip
    assert wrong == []


def test_models_use_public_names_only() -> None:
    public = {"sknet_ops", "sknet_ops.layers", "sknet_ops.functional"}
    wrong = []
    for path in python_files("python"):
        for module, name in imports(path):
            if module.partition(".")[0] == "sknet_ops":
                known = module in public and (name is None or name in public_names(module))
                if not known:
                    wrong.append((path.relative_to(ROOT).as_posix(), module, name))
    assert wrong == []


def test_layers_use_functional_only() -> None:
    inner = ("sknet_ops.primitives", "sknet_ops.binary")
    files = python_files("sknet_ops/layers")
    wrong = [(path.name, module) for path in files for module, _ in imports(path) if module.startswith(inner)]
    assert wrong == []


def includes(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".h", ".cc"):
            for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE):
                yield path, name


@pytest.mark.parametrize("folder", MAY_INCLUDE)
def test_native_folders_stay_apart(folder: str) -> None:
    allowed = {"sknet_ops", "sys", folder, *MAY_INCLUDE[folder]}
    wrong = [(path.name, name) for path, name in includes(CSRC / folder)
             if "/" in name and name.partition("/")[0] not in allowed]  # fmt: skip
    assert wrong == []


def test_frameworks_are_known_to_bindings_only() -> None:
    framework = re.compile(r"pybind11|mindspore|Python\.h")
    found = [(path, name) for path, name in includes(CSRC) if framework.search(name)]
    assert found
    assert [path.name for path, _ in found if path.parent != CSRC / "bindings"] == []


def tracked_files() -> list[Path]:
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        pytest.skip("not a git checkout: there is no list of the project's files")
    return [ROOT / name for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine() -> None:
    roots = "|".join(("work", "root", "farm", "home/[a-z]+", "opt/(wheels|pypi|peers)"))
    machine = re.compile(rf"(?<![\w.])/({roots})/")
    wrong = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        lines = enumerate(text.splitlines(), start=1)
        wrong += [f"{path.relative_to(ROOT)}:{number}" for number, line in lines if machine.search(line)]
    assert wrong == []


def test_every_source_names_its_licence() -> None:
    sources = [path for path in tracked_files() if path.suffix in (".py", ".h", ".cc") and path.stat().st_size]
    without = [path.relative_to(ROOT).as_posix() for path in sources
               if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]]  # fmt: skip
    assert without == []
