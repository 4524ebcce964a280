"""How a run is doing, told from its folder alone, here or at a URL."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from rvc_jax.runs import heartbeat, learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatRecord
from rvc_jax.runs.mirror import fetch_run
from rvc_jax.storage.places import Location, is_remote

_LOST_SECONDS = 60.0
"""Seconds without a sign of life after which a process is taken for gone."""
_LOST_SECONDS_REMOTE = 300.0
"""The same where they have to arrive at a URL first."""
_STALLED_SECONDS = 600.0
"""Seconds without a step, at least, after which a living process counts as stalled."""
_STALLED_SECONDS_STARTING = 7200.0
"""The same before the first step: compiling takes long, on a TPU above all."""
_STALLED_STEPS = 200
"""Or the time of so many steps, if that is longer."""


@dataclasses.dataclass(frozen=True)
class Status:
    """What is known of a run."""

    run: str
    state: str
    """starting, training, finished, interrupted, failed; stalled (it lives, and takes no steps),
    gone (it ended without a word: killed, or its machine is), or unknown (it has never told
    anything)."""
    why: str
    advice: str
    """What to do about it; empty if nothing."""
    beat: HeartbeatRecord | None
    steps: int
    """Done, by the history if there is no beat."""
    holdout_best: float | None
    best_step: int | None
    outlook: tuple[str, ...]

    @property
    def is_active(self) -> bool:
        """Whether more is to come."""
        return self.state in ("starting", "training", "stalled")


def status(run: Location, now: float | None = None) -> Status:
    """Reads a run's folder, or the small files of one at a URL. now: seconds since 1970.

    Raises:
      UserError: if there is no run.
    """
    folder = RunFolder.open(fetch_run(run, "history.jsonl", heartbeat.FILE))
    beat = heartbeat.read(folder.path)
    history = folder.history()
    state, why, advice = _state(beat, time.time() if now is None else now, is_remote(run))
    best = learning_curve.best_evaluation(history)
    steps = max([beat.step if beat else 0, *(line["step"] for line in history)])
    return Status(
        str(run),
        state,
        why,
        advice,
        beat,
        steps,
        learning_curve.best_mel(best) if best else None,
        best["step"] if best else None,
        tuple(learning_curve.summary(history, folder.preset.train)),
    )


def _state(beat: HeartbeatRecord | None, now: float, remote: bool) -> tuple[str, str, str]:
    """State, why, and advice."""
    again = "`rvc-jax train` with the same folder continues it"
    if beat is None:
        return "unknown", "it has told nothing yet, or was trained by an earlier version", ""
    if beat.state == "interrupted":
        return beat.state, beat.why, again
    if beat.state not in ("starting", "training"):
        return beat.state, beat.why, again if beat.state == "failed" else ""
    silent = now - beat.alive
    if silent > (_LOST_SECONDS_REMOTE if remote else _LOST_SECONDS):
        where = f"process {beat.process} of {beat.machine}"
        return (
            "gone",
            f"no sign of life of {where} for {_minutes(silent)}",
            f"see whether the machine still runs; {again}",
        )
    still = now - beat.moved
    most = _STALLED_SECONDS_STARTING if beat.state == "starting" else _STALLED_SECONDS
    if beat.steps_per_second:
        most = max(most, _STALLED_STEPS / beat.steps_per_second)
    if still > most:
        why = f"no step for {_minutes(still)}, though process {beat.process} of {beat.machine} lives"
        return "stalled", why, f"look at what it printed; end it, and {again}"
    return beat.state, "", ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def as_plain(status: Status) -> dict[str, Any]:
    """For JSON: the beat's values beside the rest."""
    values = dataclasses.asdict(status)
    beat = values.pop("beat") or {}
    return {
        **{name: value for name, value in beat.items() if name not in ("state", "why")},
        **values,
    }
