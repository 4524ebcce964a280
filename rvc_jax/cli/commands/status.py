"""`rvc-jax status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, RunArgument
from rvc_jax.formatting import format_duration

if TYPE_CHECKING:
    from rvc_jax.runs.status import Status


def status(run: RunArgument, as_json: Json = False) -> int:
    """Show how a run is doing: progress, hold-out error, budget, last checkpoint, and whether it
    has stalled or died.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL, during training or afterwards.
    """
    from rvc_jax.runs.status import read_status

    now = read_status(run)
    print_result(now.to_json(), _rows(now), as_json)
    return 0


def _rows(now: Status) -> list[tuple[str, str]]:
    rows = [("run", now.run), ("state", now.state + (f": {now.why}" if now.why else ""))]
    if now.advice:
        rows.append(("what to do", now.advice))
    rows += _progress_rows(now)
    if now.holdout_best is not None:
        best = f"{now.holdout_best:.3f}, the best, at step {now.best_step}"
        rows.append(("hold-out log-mel error", best))
    beat = now.beat
    if beat and beat.budget:
        rows.append(("budget", beat.budget))
    if beat and beat.saved is not None:
        ago = format_duration(max(time.time() - beat.saved, 0))
        rows.append(("last save", f"step {beat.saved_step}, {ago} ago"))
    if beat and beat.message:
        rows.append(("message", beat.message))
    return rows + [("outlook", sentence) for sentence in now.outlook]


def _progress_rows(now: Status) -> list[tuple[str, str]]:
    beat = now.beat
    if beat is None:
        return [("steps", str(now.steps))]
    total = f" of {beat.total_steps}" if beat.total_steps else ""
    rows = [("steps", f"{now.steps}{total}")]
    if beat.epochs:
        rows.append(("epochs", f"{beat.epoch} of {beat.epochs}"))
    if beat.steps_per_second:
        rows.append(("speed", f"{beat.steps_per_second:.2f} steps/s"))
    if beat.seconds_left and now.is_active:
        rows.append(("left", format_duration(beat.seconds_left)))
    if beat.losses:
        losses = [f"{name.split('/')[-1]} {value:.2f}" for name, value in beat.losses.items()]
        rows.append(("losses", ", ".join(losses)))
    return rows
