"""`rvc-jax watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rvc_jax.cli.options import RunArgument
from rvc_jax.cli.terminal import print_line
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_duration

if TYPE_CHECKING:
    from rvc_jax.runs.status import Status


def watch(run: RunArgument, every: float = 10.0) -> int:
    """Follow a run until it ends, printing a line for every change. Ctrl-C stops watching, not the
    run.

    The exit code is 0 if the run finished, 1 if it ended otherwise.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL.
        every: Seconds between checks.
    """
    from rvc_jax.runs.status import Observer, read_status

    if not every > 0:
        raise UserError(f"--every {every:g} is not a time to wait; give seconds, such as 10")
    last = ""
    observer = Observer()
    while True:
        now = read_status(run, observer=observer)
        line = _format(now)
        if line != last:
            print_line(line)
            last = line
        if not now.is_active:
            return 0 if now.state == "finished" else 1
        time.sleep(every)


def _format(now: Status) -> str:
    beat = now.beat
    parts = [now.state + (f" ({now.why})" if now.why else "")]
    if beat and beat.total_steps:
        parts.append(f"step {now.steps}/{beat.total_steps}, epoch {beat.epoch}/{beat.epochs}")
    if beat and beat.seconds_left and now.is_active:
        parts.append(f"{format_duration(beat.seconds_left)} left")
    if now.holdout_best is not None:
        parts.append(f"hold-out {now.holdout_best:.3f}")
    if beat and beat.budget:
        parts.append(beat.budget)
    if beat and beat.saved_step is not None:
        parts.append(f"saved at step {beat.saved_step}")
    return ", ".join(parts)
