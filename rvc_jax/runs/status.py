"""How a run is doing, from the files in its folder or at its URL."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from rvc_jax.runs import heartbeat, learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatRecord
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import best_evaluation, best_mel
from rvc_jax.runs.mirror import fetch_run
from rvc_jax.storage.places import Location, is_remote

_LOST_SECONDS = 60.0
"""Seconds without a heartbeat after which a process counts as lost."""
_LOST_SECONDS_REMOTE = 300.0
"""The same at a URL, where heartbeats arrive late."""
_STALLED_SECONDS = 600.0
"""Least seconds without a step after which a living process counts as stalled."""
_STALLED_SECONDS_STARTING = 7200.0
"""The same before the first step: compiling takes long, on a TPU above all."""
_STALLED_STEPS = 200
"""The time of this many steps counts if it is longer."""


@dataclasses.dataclass(frozen=True)
class Status:
    """What is known of a run."""

    run: str
    state: str
    """starting, training, finished, interrupted, failed, stalled (alive, no progress), gone (died
    without reporting), or unknown (no heartbeat yet)."""
    why: str
    """The reason for this state; empty if it needs none."""
    advice: str
    """What to do about it; empty if nothing."""
    beat: HeartbeatRecord | None
    steps: int
    """Steps done; from the history if there is no heartbeat."""
    holdout_best: float | None
    """Log-mel error of the best voice."""
    best_step: int | None
    outlook: tuple[str, ...]
    """What the course of the hold-out says, in sentences."""

    @property
    def is_active(self) -> bool:
        """Whether the run's process still works."""
        return self.state in ("starting", "training", "stalled")

    def to_json(self) -> dict[str, Any]:
        """Return all values in one flat dictionary, those of the heartbeat among them."""
        values = dataclasses.asdict(self)
        beat = values.pop("beat") or {}
        own = {name: value for name, value in beat.items() if name not in ("state", "why")}
        return {**own, **values}


def read_status(run: Location, now: float | None = None) -> Status:
    """Read how a run is doing.

    Args:
        run: The run's folder, or its URL, of which the small files are fetched.
        now: Seconds since 1970; by default the present.

    Raises:
        UserError: There is no run.
    """
    folder = RunFolder.open(fetch_run(run, HISTORY_FILE, heartbeat.FILE))
    beat = heartbeat.read_heartbeat(folder.path)
    history = folder.history()
    now = time.time() if now is None else now
    state, why, advice = interpret_heartbeat(beat, now, is_remote(run))
    best = best_evaluation(history)
    steps = [line["step"] for line in history]
    if beat is not None:
        steps.append(beat.step)
    return Status(
        str(run),
        state,
        why,
        advice,
        beat,
        max(steps, default=0),
        best_mel(best) if best else None,
        best["step"] if best else None,
        tuple(learning_curve.summary(history, folder.preset.train)),
    )


def interpret_heartbeat(
    beat: HeartbeatRecord | None, now: float, remote: bool
) -> tuple[str, str, str]:
    """Return a run's state, the reason for it, and what to do about it, as in `Status`.

    Args:
        beat: The run's last heartbeat, if any.
        now: Seconds since 1970.
        remote: Whether the heartbeat was read at a URL.
    """
    continue_it = "`rvc-jax train` with the same folder continues it"
    if beat is None:
        return "unknown", "no heartbeat yet, or trained by an earlier version", ""
    if beat.state == "interrupted":
        return beat.state, beat.why, continue_it
    if beat.state not in ("starting", "training"):
        return beat.state, beat.why, continue_it if beat.state == "failed" else ""
    process = f"process {beat.process} of {beat.machine}"

    silent = now - beat.alive
    if silent > (_LOST_SECONDS_REMOTE if remote else _LOST_SECONDS):
        why = f"no sign of life of {process} for {_format_minutes(silent)}"
        return "gone", why, f"see whether the machine still runs; {continue_it}"

    still = now - beat.moved
    is_starting = beat.state == "starting"
    limit = _STALLED_SECONDS_STARTING if is_starting else _STALLED_SECONDS
    if beat.steps_per_second:
        limit = max(limit, _STALLED_STEPS / beat.steps_per_second)
    if still > limit:
        why = f"no step for {_format_minutes(still)}, though {process} is alive"
        return "stalled", why, f"look at what it printed; end it, and {continue_it}"
    return beat.state, "", ""


def _format_minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
