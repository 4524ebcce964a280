"""`rvc-jax status` and `rvc-jax watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, Run
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_duration

if TYPE_CHECKING:
    from rvc_jax.runs.status import Status


def status(run: Run, as_json: Json = False) -> int:
    """Tell how a run is doing: how far it is, the hold-out, budget, last save; a run that stalls or
    is gone is named.

    Args:
        run: Folder of the run, also at gs:// or s3://, while it trains or afterwards.
    """
    from rvc_jax.runs.status import read_status

    now = read_status(run)
    print_result(now.to_json(), _rows(now), as_json)
    return 0


def watch(run: Run, every: float = 10.0) -> int:
    """Follow a run until it ends, a line whenever something has changed. Ctrl-C ends the watching,
    not the run.

    The exit code is 0 after a run that finished, 1 after one that ended otherwise.

    Args:
        run: Folder of the run, also at gs:// or s3://.
        every: Seconds between looks.
    """
    from rvc_jax.runs.status import read_status

    if not every > 0:
        raise UserError(f"--every {every:g} is no time to wait; give seconds, as 10")
    last = ""
    while True:
        now = read_status(run)
        if (line := _line(now)) != last:
            print(line, flush=True)
            last = line
        if not now.is_active:
            return 0 if now.state == "finished" else 1
        time.sleep(every)


def _rows(now: Status) -> list[tuple[str, str]]:
    beat = now.beat
    rows = [("run", now.run), ("state", now.state + (f": {now.why}" if now.why else ""))]
    rows += [("what to do", now.advice)] if now.advice else []
    total = f" of {beat.total_steps}" if beat and beat.total_steps else ""
    rows.append(("steps", f"{now.steps}{total}"))
    if beat and beat.epochs:
        rows.append(("epochs", f"{beat.epoch} of {beat.epochs}"))
    if beat and beat.steps_per_second:
        rows.append(("speed", f"{beat.steps_per_second:.2f} steps/s"))
    if beat and beat.seconds_left and now.is_active:
        rows.append(("left", format_duration(beat.seconds_left)))
    if beat and beat.losses:
        rows.append(
            (
                "losses",
                ", ".join(
                    f"{name.split('/')[-1]} {value:.2f}" for name, value in beat.losses.items()
                ),
            )
        )
    if now.holdout_best is not None:
        rows.append(
            (
                "hold-out log-mel error",
                f"{now.holdout_best:.3f}, the best, at step {now.best_step}",
            )
        )
    if beat and beat.budget:
        rows.append(("budget", beat.budget))
    if beat and beat.saved is not None:
        rows.append(
            (
                "last save",
                f"step {beat.saved_step}, {format_duration(max(time.time() - beat.saved, 0))} ago",
            )
        )
    rows += [("message", beat.message)] if beat and beat.message else []
    return rows + [("outlook", sentence) for sentence in now.outlook]


def _line(now: Status) -> str:
    beat = now.beat
    parts = [now.state + (f" ({now.why})" if now.why else "")]
    if beat and beat.total_steps:
        parts.append(f"step {now.steps}/{beat.total_steps}, epoch {beat.epoch}/{beat.epochs}")
    if beat and beat.seconds_left and now.is_active:
        parts.append(f"{format_duration(beat.seconds_left)} left")
    if now.holdout_best is not None:
        parts.append(f"hold-out {now.holdout_best:.3f}")
    parts += [beat.budget] if beat and beat.budget else []
    parts += (
        [f"saved at step {beat.saved_step}"] if beat and beat.saved_step is not None else []
    )
    return ", ".join(parts)
