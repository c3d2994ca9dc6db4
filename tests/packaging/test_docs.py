# SPDX-License-Identifier: Apache-2.0
"""What README and docs refer to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = {path.name for path in ROOT.iterdir() if path.is_dir()}
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pages
def test_named_files_exist(page: Path) -> None:
    """A path in backticks or a code block that begins with a folder of the project; `<isa>`, `my_op` and `*` stand for
    any name, and .venv, build, dist, data and runs are made later, as are the reports of benchmarks."""
    made = {".venv", ".benchmarks", "build", "dist", "data", "runs"}
    found = re.findall(r"(?<![\w./-])([\w.-]+)((?:/[\w.<>*-]+)+/?)", page.read_text())
    names = {top + rest for top, rest in found if top in TOP - made}
    names = {name for name in names if not name.startswith("benchmarks/reports/")}
    patterns = {name: re.sub(r"<\w+>|my_op", "*", name).strip("/") for name in names}
    assert [name for name, pattern in patterns.items() if not any(ROOT.glob(pattern)) and not
            any(ROOT.glob(f"{pattern}.*"))] == []  # fmt: skip


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ((?:[A-Z]\w*=\S+ )*)([a-z][\w-]*)", page.read_text(), re.MULTILINE)
    assert [target for _, target in named if target not in targets] == []


@pages
def test_python_parses(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, page.name, "exec")
