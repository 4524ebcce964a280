"""How a run is doing, from the files in its folder or at its URL."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from rvc_jax.errors import UserError
from rvc_jax.runs import heartbeat, learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatRecord
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import best_evaluation, best_mel
from rvc_jax.runs.mirror import fetch_run
from rvc_jax.storage.files import LOCK_NAME
from rvc_jax.storage.locks import RENEW_SECONDS, LockState, read_lock
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.storage.processes import ProcessId

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
_OBSERVED_SECONDS = 2 * RENEW_SECONDS + 2.0
"""Seconds for which a run is observed whose process can't be seen from here."""
_POLL_SECONDS = 0.5
_ACTIVE = ("starting", "training")


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


class Observer:
    """Notices by this process's own clock whether a run still gives signs of life.

    Clocks of machines differ, and are set: times of other machines are compared with nothing but
    each other.
    """

    def __init__(self) -> None:
        self._last: object = None
        self._changed = 0.0

    def measure_silence(self, sign: object) -> float:
        """Return for how many seconds a sign of life has been the same; 0 at first sight."""
        now = time.monotonic()
        if sign != self._last:
            self._last = sign
            self._changed = now
        return now - self._changed


class LifeSign(NamedTuple):
    """What is known of the process of a run."""

    lock: LockState | None = None
    """The run's lock; None without one, and at a URL."""
    silence: float | None = None
    """Seconds for which it has been observed without a sign of life; None: it was not observed."""

    @property
    def is_alive(self) -> bool | None:
        """Whether the process exists; None if it can't be seen from here."""
        return self.lock.is_alive if self.lock else None

    @property
    def holder(self) -> ProcessId | None:
        """The process that has the run's lock, if its file says so."""
        return self.lock.holder.process if self.lock and self.lock.holder else None


_UNSEEN = LifeSign()


def read_status(
    run: Location, now: float | None = None, observer: Observer | None = None
) -> Status:
    """Read how a run is doing.

    Where its process can't be seen from here, and its heartbeat's time can't be right, the run is
    observed for some seconds.

    Args:
        run: The run's folder, or its URL, of which the small files are fetched.
        now: Seconds since 1970; by default the present.
        observer: Remembers what an earlier call saw, instead of waiting.

    Raises:
        UserError: There is no run.
    """
    remote = is_remote(run)
    folder = RunFolder.open(fetch_run(run, HISTORY_FILE, heartbeat.FILE))
    now = time.time() if now is None else now
    beat, sign = _read_signs(folder.path, remote, observer)
    if observer is None and not remote and is_doubtful(beat, sign, now, remote):
        observer = Observer()
        first = (beat, sign.lock)
        end = time.monotonic() + _OBSERVED_SECONDS
        while (beat, sign.lock) == first and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            beat, sign = _read_signs(folder.path, remote, observer)
        silence = 0.0 if (beat, sign.lock) != first else math.inf
        sign = sign._replace(silence=silence)
    history = folder.history()
    state, why, advice = interpret_heartbeat(beat, now, remote, sign)
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
        (
            *learning_curve.summary(history, folder.preset.train),
            *filter(None, [folder.describe_damage()]),
        ),
    )


def _read_signs(
    run: Path, remote: bool, observer: Observer | None
) -> tuple[HeartbeatRecord | None, LifeSign]:
    # The lock first: a process that ends writes its last heartbeat before it gives the lock back.
    lock = None
    if not remote:
        with contextlib.suppress(UserError):  # another user's, perhaps
            lock = read_lock(run / LOCK_NAME)
    beat = heartbeat.read_heartbeat(run)
    silence = observer.measure_silence((beat, lock)) if observer else None
    return beat, LifeSign(lock, silence)


def is_doubtful(beat: HeartbeatRecord | None, sign: LifeSign, now: float, remote: bool) -> bool:
    """Return whether only an observation can show if the process of a run still works."""
    if beat is None or beat.state not in _ACTIVE or sign.is_alive is not None:
        return False
    lost = _LOST_SECONDS_REMOTE if remote else _LOST_SECONDS
    silent = now - beat.alive
    is_future = silent < -lost
    # Without a lock, an old heartbeat is an old heartbeat.
    return is_future or (silent > lost and sign.lock is not None)


def interpret_heartbeat(
    beat: HeartbeatRecord | None, now: float, remote: bool, sign: LifeSign = _UNSEEN
) -> tuple[str, str, str]:
    """Return a run's state, the reason for it, and what to do about it, as in `Status`.

    Args:
        beat: The run's last heartbeat, if any.
        now: Seconds since 1970.
        remote: Whether the heartbeat was read at a URL.
        sign: What is known of the process.
    """
    continue_it = "`rvc-jax train` with the same folder continues it"
    if sign.is_alive and not _is_beat_of(beat, sign.holder):
        return "starting", "", ""
    if beat is None:
        return "unknown", "no heartbeat yet, or trained by an earlier version", ""
    if beat.state == "interrupted":
        return beat.state, beat.why, continue_it
    if beat.state not in _ACTIVE:
        return beat.state, beat.why, continue_it if beat.state == "failed" else ""
    process = f"process {beat.process} of {beat.machine}"

    lost = _LOST_SECONDS_REMOTE if remote else _LOST_SECONDS
    if sign.is_alive is False:
        return "gone", f"{process} has ended without a report", continue_it
    if sign.is_alive is None:
        silent = now - beat.alive
        if is_doubtful(beat, sign, now, remote):
            if sign.silence is None:
                why = f"the last sign of life of {process} is from the future: clocks differ"
                return "unknown", why, "`rvc-jax watch` shows whether there are more"
            silent = sign.silence
        if silent > lost:
            since = f" for {_format_minutes(silent)}" if math.isfinite(silent) else ""
            advice = f"see whether the machine still runs; {continue_it}"
            return "gone", f"no sign of life of {process}{since}", advice
    elif sign.holder is not None and sign.holder.is_stopped:
        why = f"{process} is stopped by a signal (SIGSTOP, Ctrl-Z)"
        return "stalled", why, f"`kill -CONT {beat.process}` lets it go on"

    still = now - beat.moved if beat.idle is None else beat.idle
    is_starting = beat.state == "starting"
    limit = _STALLED_SECONDS_STARTING if is_starting else _STALLED_SECONDS
    if beat.steps_per_second:
        limit = max(limit, _STALLED_STEPS / beat.steps_per_second)
    if still > limit:
        why = f"no step for {_format_minutes(still)}, though {process} is alive"
        return "stalled", why, f"look at what it printed; end it, and {continue_it}"
    return beat.state, "", ""


def _is_beat_of(beat: HeartbeatRecord | None, holder: ProcessId | None) -> bool:
    """Return whether a heartbeat is of the process that has the lock, or may be."""
    if holder is None:
        return True
    return beat is not None and beat.process == holder.number and beat.machine == holder.machine


def _format_minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
