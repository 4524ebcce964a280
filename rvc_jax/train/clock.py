"""What the clock decides in a run: when it is evaluated, and when it ends."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from rvc_jax.train import distributed
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.train.signals import StopSignal

NO_LIMIT = sys.maxsize
"""Last step of a run that only the clock ends."""

_EVALUATIONS = 10
"""Evaluations of a run of limited time, if they take no longer than their share of it."""
_EVALUATION_SHARE = 0.1


class EvaluationClock:
    """Says when a run of limited time is evaluated.

    Epochs would not do: one has three steps on a minute of speech, and hundreds on an hour, where
    none may end in time. Runs without such a limit are evaluated by their epochs alone.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic):
        """Start the clock.

        minutes: limit of the run; 0: none. clock: returns the time in seconds.
        """
        self._period = 60 * minutes / _EVALUATIONS
        self._clock = clock
        self._last = clock()
        self._least = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the run should be evaluated now."""
        waited = self._clock() - self._last
        return bool(self._period) and waited >= max(self._period, self._least)

    @property
    def is_too_soon(self) -> bool:
        """Whether an evaluation now would take more than its share of the time."""
        return bool(self._period) and self._clock() - self._last < self._least

    def restart(self, after: float = 0.0) -> None:
        """Count from now on.

        after: seconds of the evaluation that has just ended; 0 at the beginning.
        """
        self._last = self._clock()
        self._least = after * (1 / _EVALUATION_SHARE - 1)


def read_clocks(
    signal: StopSignal, meter: BudgetMeter, clock: EvaluationClock, next_seconds: float
) -> list[bool]:
    """Return whether this process wants to end the run (a signal, the budget, the time), and
    whether an evaluation is due by its clock, or too soon.

    Only the first process has a budget and a time, because only its clock is saved with the run.
    """
    if not distributed.is_first():
        return [bool(signal), False, False, False, False]
    return [
        bool(signal),
        meter.is_used_up(next_seconds),
        meter.is_out_of_time(next_seconds),
        clock.is_due,
        clock.is_too_soon,
    ]


def expect_end(step: int, total_steps: int, steps_in_time: float) -> int:
    """Return the step at which a run will probably end; 0 while that is unknown.

    total_steps: the last one without a clock. steps_in_time: those for which it has time; NaN while
    unknown.
    """
    if math.isfinite(steps_in_time):
        return min(total_steps, step + int(steps_in_time))
    return 0 if total_steps == NO_LIMIT else total_steps
