"""SIGTERM and SIGHUP as exceptions, so that what was begun is cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator
from types import FrameType

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""Sent when the terminal is closed or the connection to it lost; Windows does not have it."""


class InterruptedBySignal(KeyboardInterrupt):
    """The process was asked to end, as by Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As shells have it."""


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise `InterruptedBySignal` in the block for SIGTERM and SIGHUP.

    What is ignored (nohup) or handled already stays so, and only the main thread can do it. A
    second SIGTERM ends the process at once; a second SIGHUP does nothing, since shells send it once
    more.
    """
    before = {}

    def handle(number: int, frame: FrameType | None) -> None:
        is_hangup = number == HANGUP
        signal.signal(number, signal.SIG_IGN if is_hangup else signal.SIG_DFL)
        if is_hangup:
            leave_dead_terminal()
        raise InterruptedBySignal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, HANGUP):
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_dead_terminal() -> None:
    """Let output go nowhere if its terminal is gone: writing there would raise an error."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if is_device and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
