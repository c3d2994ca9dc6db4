# SPDX-License-Identifier: Apache-2.0
"""Fills torch.compile's cache on disk in processes of their own, while the main one builds and checks."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

WORKERS = 8


class Workers:
    """What they fail at stands in `log`; timing compiles it again, and says so in its row."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: IO[str] = log.open("w")
        # Without a limit each process would start as many compilers as the machine has cores.
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "2"}
        command = [sys.executable, __file__, "--part"]
        self._running = [subprocess.Popen([*command, str(i)], stdout=self._file, stderr=self._file, env=environment)
                         for i in range(WORKERS)]  # fmt: skip

    def finish(self, seconds: float) -> None:
        """Waits as long, then ends those that are left: they use the device, and nothing is timed beside them."""
        for worker in self._running:
            try:
                worker.wait(timeout=max(0.0, seconds))
            except subprocess.TimeoutExpired:
                self.stop()
        self.stop()

    def stop(self) -> None:
        for worker in self._running:
            worker.kill()
            worker.wait()
        self._file.close()
        if self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()


def warm(part: int) -> None:
    import torch
    from report import JUDGED
    from series import configurations
    from timing import Bench

    torch.backends.cudnn.benchmark = False  # the search is for the timing process
    # The best of a kernel's variants, too, which are not to be compared while others use the device.
    torch._inductor.config.autotune_local_cache = False
    for index, (unit, batch, precision) in enumerate(configurations()):
        if index % WORKERS != part:
            continue
        for which in JUDGED:
            for layout in ("nhwc", "nchw"):
                try:
                    Bench(unit, batch, precision).torch_calls(which, compiled=True, layout=layout)[0]()
                except Exception as error:  # the next may work
                    where = f"{unit}, {batch}, {precision}, {which}, {layout}"
                    print(f"{where}: {type(error).__name__}: {error}", flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, required=True, help=f"of {WORKERS}")
    os.nice(10)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    warm(parser.parse_args().part)
