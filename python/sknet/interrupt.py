# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import contextlib
import signal
from types import TracebackType


class Interrupt:
    """While entered, Ctrl-C is held back, and ``check`` raises it: parameters are then those of a whole step.

    Held back, not handled: while it compiles or runs a graph, MindSpore has a handler of its own in place, which ends
    the process by SIGTERM. Threads inherit what is held back. One that was there before still takes the signal, and
    calls that handler: NumPy starts such a thread for each further processor. So enter before NumPy and MindSpore are
    imported, as the command line does.
    """

    def __enter__(self) -> Interrupt:
        self._ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # a job in the background
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.SIGINT in self._mask:
            return  # held back further out, too
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None:
            # In the place of MindSpore's. Python knows of its own handlers only, and in the main thread alone.
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, handler)
        pressed = self._take()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if pressed and kind is None:
            raise KeyboardInterrupt

    def check(self) -> None:
        """KeyboardInterrupt if Ctrl-C came since."""
        if self._take():
            raise KeyboardInterrupt

    def _take(self) -> bool:
        """Whether Ctrl-C came; it is then done with."""
        if signal.SIGINT not in signal.sigpending():
            return False
        signal.sigwait({signal.SIGINT})
        return not self._ignored
