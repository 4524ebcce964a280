"""What a run reports: its progress while it trains, and its result."""

from __future__ import annotations

import dataclasses
import math

from rvc_jax.formatting import format_duration
from rvc_jax.reporter import Reporter
from rvc_jax.storage.places import Location

STAGE = "training"
"""Name of the stage under which a run reports its progress."""

_LOSS_LABELS = {
    "loss/mel": "mel",
    "loss/kl": "kl",
    "loss/feature_matching": "fm",
    "loss/adversarial": "adv",
    "loss/discriminator": "disc",
}


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """How far a run is. Times are in seconds, NaN while unknown."""

    step: int
    total_steps: int
    """The last step; expected by the speed for a run of limited time, 0 while unknown."""
    epoch: int
    epochs: int
    """The last epoch, likewise."""
    step_seconds: float
    seconds_left: float
    losses: dict[str, float]
    """The newest recorded losses by name."""
    holdout: float | None
    """Log-mel error of the last evaluation; None before the first."""
    budget: str = ""
    """What of the budget is spent and left; empty without a budget."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did. Hold-out errors are None where the dataset has no hold-out."""

    run: Location
    steps: int
    epochs: int
    resumed_from: int
    """Step that this call began with; 0 for a new run."""
    steps_per_second: float | None
    """None if too few steps were taken to measure it."""
    holdout_before: float | None
    """Log-mel error of the first evaluation."""
    holdout_after: float | None
    """Log-mel error of the best voice."""
    interrupted: bool
    skipped: int = 0
    """Steps of this call that were skipped because their loss or gradient was not finite."""
    spent: str = ""
    """What of the budget is spent and left."""
    used_up: bool = False
    """Whether the budget ended the run."""
    stopped: str = ""
    """Why the run ended before its last step: its time was over, or its patience had run out."""
    outlook: tuple[str, ...] = ()
    """What the course of the hold-out says: overfitting, or what more epochs would bring."""

    @property
    def has_ended(self) -> bool:
        """Whether the run ended by itself (at its budget's end, too) and was not interrupted."""
        return not self.interrupted or self.used_up


def report_training(reporter: Reporter, progress: TrainProgress) -> None:
    """Report how far a run is: as a line for people, and with every figure for programs."""
    reporter.progress(
        STAGE,
        progress.step,
        progress.total_steps or None,
        format_progress(progress),
        dataclasses.asdict(progress),
    )


def format_progress(progress: TrainProgress) -> str:
    """Return how far a run is in one line, the most useful part first: narrow terminals cut it."""
    is_timed = math.isfinite(progress.step_seconds)
    parts = [f"step {_of(progress.step, progress.total_steps)}"]
    if is_timed:
        parts.append(f"{format_duration(progress.seconds_left)} left")
    if progress.budget:
        parts.append(progress.budget)
    parts.append(f"epoch {_of(progress.epoch, progress.epochs)}")
    if is_timed:
        parts.append(f"{1 / progress.step_seconds:.2f} steps/s")
    if progress.holdout is not None:
        parts.append(f"hold-out {progress.holdout:.3f}")
    losses = [
        f"{label} {progress.losses[name]:.2f}"
        for name, label in _LOSS_LABELS.items()
        if name in progress.losses
    ]
    if losses:
        parts.append("losses: " + " ".join(losses))
    return ", ".join(parts)


def _of(number: int, total: int) -> str:
    return f"{number}/{total}" if total else str(number)
