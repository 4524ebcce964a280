"""Ctrl-C, SIGTERM and SIGHUP as a request to save and end, not as an exception in the middle of a
step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from rvc_jax.storage.signals import HANGUP, leave_dead_terminal


class StopSignal:
    """True once a signal has come while the context lasts. A second signal acts as usual.

    SIGHUP says that the terminal is gone: where it is ignored (nohup) it stays ignored, and a
    second one does nothing, since shells send it once more. Only the main thread can handle
    signals: in any other one it stays False.
    """

    def __init__(self) -> None:
        self._has_come = False
        self._previous: dict[int, Any] = {}
        """The handlers to put back, by the signal's number."""

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
                numbers.append(signal.Signals(HANGUP))
            for number in numbers:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self._has_come

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._has_come = True
        if number == HANGUP:
            leave_dead_terminal()
        else:
            signal.signal(number, self._previous[number])
