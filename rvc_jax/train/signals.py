"""Ctrl-C and SIGTERM as a request to save and end, instead of an exception in the middle of a
step."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """True once a signal has come. A second one is not held back."""

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(number, self._previous[number])
