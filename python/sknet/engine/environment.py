# SPDX-License-Identifier: Apache-2.0
"""environment.json of a run folder: on what, with what and from which sources each part of the run was made."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sknet_ops
from sknet import __version__
from sknet.files import write_text

_ROOT = Path(__file__).resolve().parents[3]


def git_state(root: Path = _ROOT) -> dict[str, Any]:
    """Commit of the clone at `root` and whether files differ from it; or why that cannot be told."""

    def git(*argv: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *argv], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {"commit": None, "reason": "not run from a clone"}  # installed somewhere below another project
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except FileNotFoundError:
        return {"commit": None, "reason": "git is not installed"}
    except subprocess.SubprocessError:
        return {"commit": None, "reason": "not run from a clone"}


def add_start(path: Path, step: int, **more: Any) -> None:
    """Append one start of a run, at `step`, to the list in the file; at step 0 the list begins anew."""
    starts = []
    if step and path.is_file():
        try:
            starts = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            starts = [{"unreadable": path.read_text(encoding="utf-8", errors="replace")}]
    starts.append(
        {
            "step": step,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": sys.argv,
            "sknet": __version__,
            **more,
            **dict(sknet_ops.describe()),
            "git": git_state(),
        }
    )
    write_text(path, json.dumps(starts, indent=1))
