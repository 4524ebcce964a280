"""A run's limits by the clock: its minutes, and its budget in hours, Colab units or dollars."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

from rvc_jax.config import RATES, Rate
from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json
from rvc_jax.storage.json_files import read_json

_BUDGET_PATTERN = re.compile(r"(\$)?(\d+(?:\.\d+)?)\s*(units?|h|min|\$)?")
_MIN_RESERVE = 20.0
"""Seconds that are kept back for the end before any evaluation has been timed."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What may be spent, as seconds of all chips together, and what an hour of them costs."""

    text: str
    """As the user wrote it."""
    seconds: float
    unit: str
    """h, unit or $."""
    per_hour: float
    """Units or dollars per hour; 1 for a budget of time."""

    @classmethod
    def parse(cls, text: str, rate: Rate | None, chips: int) -> Budget:
        """Read a budget such as 5units, 2h, 90min or $3.

        Args:
            text: The budget.
            rate: What an hour of one chip costs; None if unknown: then only a time is accepted.
            chips: Number of chips.

        Raises:
            UserError: The text is not a budget, or the cost of this machine is not known.
        """
        found = _BUDGET_PATTERN.fullmatch(text.strip())
        # Exactly one of the leading $ and the trailing unit.
        if found is None or bool(found[1]) == bool(found[3]) or float(found[2]) <= 0:
            raise UserError(
                f'--budget {text!r} cannot be read: write it as 5units, 2h, 90min or "$3"'
            )
        amount = float(found[2])
        unit = (found[1] or found[3]).rstrip("s")
        if unit in ("h", "min"):
            seconds = amount * (3600 if unit == "h" else 60)
            return cls(text, seconds, unit="h", per_hour=1.0)
        if rate is None:
            raise UserError(
                f"--budget {text!r}: what an hour of this machine costs is not known; give a time, "
                "as 2h"
            )
        per_hour = chips * (rate.dollars_per_hour if unit == "$" else rate.units_per_hour)
        if per_hour <= 0:
            raise UserError(
                f"--budget {text!r}: this machine costs nothing in that; give a time, as 2h"
            )
        return cls(text, 3600 * amount / per_hour, unit, per_hour)

    def amount(self, seconds: float) -> str:
        """Format what a time costs, such as $1.50, 0.50 h or 4.00 units."""
        value = seconds / 3600 * self.per_hour
        if self.unit == "$":
            return f"${value:.2f}"
        return f"{value:.2f} h" if self.unit == "h" else f"{value:.2f} units"


class BudgetMeter:
    """Measures the time that a run takes, over all commands that continue it."""

    def __init__(
        self,
        file: Path,
        budget: Budget | None,
        clock: Callable[[], float] = time.monotonic,
        minutes: float = 0.0,
    ):
        """Start the clock.

        Args:
            file: Keeps the time between commands.
            budget: What may be spent; None is without limit.
            clock: Returns the time in seconds.
            minutes: What the run may take; 0 is without limit.
        """
        self._file = file
        self._budget = budget
        self._clock = clock
        self._minutes = minutes
        self._began = clock()
        self._before = _read_seconds(file)
        self._slowest_pause = 0.0
        self._last_pause = 0.0

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self._before + self._clock() - self._began

    def pause(self, seconds: float) -> None:
        """Note how long an evaluation took: twice the longest is kept back for the end."""
        self._slowest_pause = max(self._slowest_pause, seconds)
        self._last_pause = seconds

    def is_used_up(self, next_seconds: float) -> bool:
        """Return whether the run must end now to be able to evaluate and save.

        Args:
            next_seconds: Time that the next steps would take.
        """
        if self._budget is None:
            return False
        reserve = max(2 * self._slowest_pause, min(_MIN_RESERVE, 0.1 * self._budget.seconds))
        return self.spent + next_seconds + reserve > self._budget.seconds

    def is_out_of_time(self, next_seconds: float) -> bool:
        """Return whether the run must end now for its last evaluation to end with its minutes.

        Args:
            next_seconds: Time that the next steps would take.
        """
        # Less is at stake than with a budget: the last evaluation is what the next will take.
        reserve = next_seconds + self._last_pause
        return bool(self._minutes) and self.spent + reserve >= 60 * self._minutes

    @property
    def seconds_left(self) -> float:
        """Seconds that are left of the run's minutes; infinite without a limit."""
        return max(60 * self._minutes - self.spent, 0.0) if self._minutes else math.inf

    def text(self) -> str:
        """Format what is spent and what is left; empty without a budget."""
        if self._budget is None:
            return ""
        left = max(self._budget.seconds - self.spent, 0.0)
        return f"{self._budget.amount(self.spent)} spent, {self._budget.amount(left)} left"

    def save(self, is_out_of_time: bool = False) -> None:
        """Write the time to the file; a full disk is ignored, because the next call writes it
        all.

        is_out_of_time: whether the minutes are over. What was kept back for the end is then spent,
            too, or the next command would take another step.
        """
        spent = max(self.spent, 60 * self._minutes) if is_out_of_time else self.spent
        with contextlib.suppress(OSError):
            write_json(self._file, {"seconds": spent})


def lookup_rate(kind: str) -> Rate | None:
    """Return what an hour of a device costs; None if the table does not have it.

    Args:
        kind: The device's `device_kind` in JAX.
    """
    names = {
        "v5 lite": "v5e",
        "v5e": "v5e",
        "v6 lite": "v6e",
        "v6e": "v6e",
        "t4": "T4",
        "l4": "L4",
        "a100": "A100",
    }
    for part, name in names.items():
        if re.search(rf"\b{part}\b", kind.lower()):
            return RATES[name]
    return None


def _read_seconds(file: Path) -> float:
    try:
        seconds = read_json(file, dict[str, float])["seconds"]
    except (FileNotFoundError, UserError, KeyError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
