# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import contextlib
import signal
from types import TracebackType


class Interrupt:
    """While entered, Ctrl-C is held back, and ``check`` raises it: parameters are then those of a whole step.

    Held back, not handled: each graph that MindSpore runs installs a handler of its own, which ends the process. A
    thread that was there before, and does not hold the signal back itself, may still take it and call that handler;
    so enter before MindSpore is imported.
    """

    def __enter__(self) -> Interrupt:
        self._ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # a job in the background
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None and signal.SIGINT not in self._mask:
            # In the place of MindSpore's. Python knows of its own handlers only, and in the main thread alone.
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def check(self) -> None:
        """KeyboardInterrupt if Ctrl-C came since."""
        if signal.SIGINT in signal.sigpending():
            signal.sigwait({signal.SIGINT})
            if not self._ignored:
                raise KeyboardInterrupt
