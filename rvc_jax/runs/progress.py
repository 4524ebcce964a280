"""What a run tells: where it is, how fast it goes, and what came of it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rvc_jax.formatting import format_duration
from rvc_jax.reporter import Reporter
from rvc_jax.storage.places import Location


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """Where a run is; times in seconds, NaN while they are not known."""

    step: int
    total_steps: int
    epoch: int
    epochs: int
    step_seconds: float
    seconds_left: float
    losses: dict[str, float]
    holdout: float | None
    message: str | None = None
    budget: str = ""
    """What is spent and left of it."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did. Hold-out errors are None where the dataset has no hold-out."""

    run: Location
    steps: int
    epochs: int
    resumed_from: int
    steps_per_second: float | None
    """None if too few steps were taken to tell."""
    holdout_before: float | None
    holdout_after: float | None
    """Of the best voice."""
    interrupted: bool
    skipped: int = 0
    """Steps of this call that were left out, since their loss or gradient was not finite."""
    spent: str = ""
    """What of the budget is spent and left."""
    used_up: bool = False
    """The budget ended the run."""
    stopped: str = ""
    """Why the run ended before its last step: its time was over, or the hold-out brought no better
    voice."""
    outlook: tuple[str, ...] = ()
    """What the hold-out's course tells: overfitting, or what more epochs would bring."""

    @property
    def has_ended(self) -> bool:
        """By itself, its budget's end included; nobody broke it off."""
        return not self.interrupted or self.used_up


Report = Callable[[TrainProgress], None]

_LOSS_NAMES = {
    "loss/mel": "mel",
    "loss/kl": "kl",
    "loss/feature_matching": "fm",
    "loss/adversarial": "adv",
    "loss/discriminator": "disc",
}


def report_training(reporter: Reporter, progress: TrainProgress) -> None:
    """Report the progress of a training: its message if it has one, else where the run is."""
    if progress.message is not None:
        reporter.message(f"step {progress.step}: {progress.message}")
        if progress.step == 0:
            reporter.message("compiling the training step; this may take a minute")
        return
    facts = dataclasses.asdict(progress)
    del facts["message"]
    reporter.progress(
        "training", progress.step, progress.total_steps, format_progress(progress), facts
    )


def format_progress(progress: TrainProgress) -> str:
    """Return where a run is as one line, the most important first: narrow terminals cut it off."""
    is_timed = math.isfinite(progress.step_seconds)
    parts = [f"step {progress.step}/{progress.total_steps}"]
    if is_timed:
        parts.append(f"{format_duration(progress.seconds_left)} left")
    if progress.budget:
        parts.append(progress.budget)
    parts.append(f"epoch {progress.epoch}/{progress.epochs}")
    if is_timed:
        parts.append(f"{1 / progress.step_seconds:.2f} steps/s")
    if progress.holdout is not None:
        parts.append(f"hold-out {progress.holdout:.3f}")
    losses = [
        f"{name} {progress.losses[key]:.2f}"
        for key, name in _LOSS_NAMES.items()
        if key in progress.losses
    ]
    if losses:
        parts.append("losses: " + " ".join(losses))
    return ", ".join(parts)


class StepTimer:
    """Seconds per step, without the first (which compiles) and without pauses."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self._last = None
        self.last_pause = 0.0

    def tick(self, steps: int) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += steps
        self._last = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.last_pause = time.perf_counter() - begin
        if self._last is not None:
            self._last += self.last_pause

    @property
    def step_seconds(self) -> float:
        return self._seconds / self._steps if self._steps else math.nan

    @property
    def step_seconds_or_zero(self) -> float:
        """0 while it is not known."""
        return 0.0 if math.isnan(self.step_seconds) else self.step_seconds
