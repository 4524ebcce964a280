"""A run's budget: so many hours, Colab units or dollars, spent by the clock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from rvc_jax.config import RATES, Rate
from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json

_BUDGET_PATTERN = re.compile(r"(\$)?(\d+(?:\.\d+)?)\s*(units?|h|min|\$)?")
_MIN_RESERVE = 20.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """What may be spent, in seconds of all chips together working; and what an hour of them
    costs."""

    text: str
    seconds: float
    unit: str
    per_hour: float
    """Of the unit: units, dollars, or 1 for a budget of time."""

    @classmethod
    def parse(cls, text: str, rate: Rate | None, chips: int) -> Budget:
        """Reads "5units", "2h", "90min", "$3".

        rate: of one chip; None is not known, and then only time can be a budget. Raises UserError.
        """
        found = _BUDGET_PATTERN.fullmatch(text.strip())
        if found is None or bool(found[1]) == bool(found[3]) or float(found[2]) <= 0:
            raise UserError(
                f'--budget {text!r} cannot be read: write it as 5units, 2h, 90min or "$3"'
            )
        amount = float(found[2])
        unit = (found[1] or found[3]).rstrip("s")
        if unit in ("h", "min"):
            return cls(text, amount * (3600 if unit == "h" else 60), "h", 1.0)
        if rate is None:
            raise UserError(
                f"--budget {text!r}: what an hour of this machine costs is not known; give a time, as 2h"
            )
        per_hour = chips * (rate.dollars_per_hour if unit == "$" else rate.units_per_hour)
        if per_hour <= 0:
            raise UserError(
                f"--budget {text!r}: this machine costs nothing in that; give a time, as 2h"
            )
        return cls(text, 3600 * amount / per_hour, unit, per_hour)

    def amount(self, seconds: float) -> str:
        """What so much time costs, to be read."""
        value = seconds / 3600 * self.per_hour
        return (
            f"${value:.2f}"
            if self.unit == "$"
            else f"{value:.2f} {'h' if self.unit == 'h' else 'units'}"
        )


class BudgetMeter:
    """The time that a run has taken, over all commands that continued it."""

    def __init__(
        self, file: Path, budget: Budget | None, clock: Callable[[], float] = time.monotonic
    ):
        """file: keeps the time between commands."""
        self._file = file
        self._budget = budget
        self._clock = clock
        self._began = clock()
        self._before = _read(file)
        self._slowest_pause = 0.0

    @property
    def spent(self) -> float:
        """Seconds."""
        return self._before + self._clock() - self._began

    def pause(self, seconds: float) -> None:
        """An evaluation or a checkpoint took so long: as much is kept back for the end, twice."""
        self._slowest_pause = max(self._slowest_pause, seconds)

    def is_used_up(self, next_seconds: float) -> bool:
        """Whether so many seconds more would leave too little for the last evaluation and
        checkpoint."""
        if self._budget is None:
            return False
        reserve = max(2 * self._slowest_pause, min(_MIN_RESERVE, 0.1 * self._budget.seconds))
        return self.spent + next_seconds + reserve > self._budget.seconds

    def text(self) -> str:
        """What is spent and what is left; empty without a budget."""
        if self._budget is None:
            return ""
        left = max(self._budget.seconds - self.spent, 0.0)
        return f"{self._budget.amount(self.spent)} spent, {self._budget.amount(left)} left"

    def save(self) -> None:
        """A full disk is passed over: the next one writes it all."""
        with contextlib.suppress(OSError):
            write_json(self._file, {"seconds": self.spent})


def lookup_rate(kind: str) -> Rate | None:
    """What an hour of a device costs, by the name that JAX has for its kind; None if it is not in
    the table."""
    kind = kind.lower()
    names = {
        "v5 lite": "v5e",
        "v5e": "v5e",
        "v6 lite": "v6e",
        "v6e": "v6e",
        "t4": "T4",
        "l4": "L4",
        "a100": "A100",
    }
    found = [name for part, name in names.items() if re.search(rf"\b{part}\b", kind)]
    return RATES[found[0]] if found else None


def _read(file: Path) -> float:
    try:
        return max(float(json.loads(file.read_text())["seconds"]), 0.0)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0.0
