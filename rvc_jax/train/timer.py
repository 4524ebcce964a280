"""How long a training step takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepTimer:
    """Measures seconds per step, without the first dispatch (which compiles) and without pauses."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self._last: float | None = None
        self.last_pause = 0.0
        """Seconds that the last pause took."""

    def tick(self, steps: int) -> None:
        """Count steps that have been dispatched since the last call."""
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += steps
        self._last = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that the block takes."""
        begin = time.perf_counter()
        yield
        self.last_pause = time.perf_counter() - begin
        if self._last is not None:
            self._last += self.last_pause

    @property
    def step_seconds(self) -> float:
        """Mean seconds per step; NaN while unknown."""
        return self._seconds / self._steps if self._steps else math.nan

    @property
    def step_seconds_or_zero(self) -> float:
        """Mean seconds per step; 0 while unknown."""
        return self._seconds / self._steps if self._steps else 0.0
