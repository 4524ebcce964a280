"""`rvc-jax train`."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rvc_jax.cli.after_training import check_action, run_action, run_action_on_other_machine
from rvc_jax.cli.commands.report import write_report_of_run
from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Cluster, DatasetArgument, Json, Preset, Training
from rvc_jax.config import PRESETS
from rvc_jax.storage.environment import check_devices, start_jax

if TYPE_CHECKING:
    from rvc_jax.runs.progress import TrainResult

_Action = Annotated[str, tyro.conf.arg(metavar="nothing|exit|shutdown|COMMAND")]


def train(
    dataset: DatasetArgument,
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    recipe: Training,
    cluster: Cluster,
    preset: Preset = None,
    at_end: _Action = "nothing",
    progress: Literal["auto", "lines", "json"] = "auto",
    as_json: Json = False,
) -> int:
    """Train a voice on a dataset, or continue a run. Ctrl-C saves and stops; the same command
    continues.

    Args:
        dataset: Folder made by `rvc-jax prepare`, or its gs:// or s3:// URL.
        run: Folder of the run, or its gs:// or s3:// URL: settings, checkpoints, curves, report.
        preset: Voice format; by default the dataset's.
        at_end: What to do when training is complete or its budget is used up, once everything is
            saved. nothing; exit: end the process at once, also in a notebook; shutdown: turn off
            the machine, or all machines that took part; anything else is run as a shell command by
            the first process.
        progress: How progress is shown on standard error. auto: a bar on a terminal, lines
            elsewhere; lines; json: one object per line.
    """
    check_action(at_end)
    start_jax(has_peers=True)
    from rvc_jax.runs.upload import sync_run
    from rvc_jax.train.distributed import broadcast_from_first, is_first, join, leave
    from rvc_jax.train.loop import train as run_train

    join(cluster)
    check_devices()
    with Display(progress) as display, contextlib.ExitStack() as stack:
        folder = Path(
            broadcast_from_first(lambda: str(stack.enter_context(sync_run(run, display))))
        )
        result = run_train(
            dataset, folder, PRESETS[preset] if preset else None, recipe, display
        )
        first_machine = broadcast_from_first(platform.node)
        leave()
        if not is_first():
            if not result.has_ended:
                return 0
            return run_action_on_other_machine(at_end, first_machine)
        if result.has_ended:
            display.message("writing the report")
            write_report_of_run(folder, dataset)
        # The context's end uploads the run: only then may the action turn the machine off.
    result = dataclasses.replace(result, run=run)
    print_result(result, _rows(result), as_json)
    return run_action(at_end) if result.has_ended else 0


def _rows(result: TrainResult) -> list[tuple[str, str]]:
    from rvc_jax.storage import places

    new_steps = result.steps - result.resumed_from
    speed = "not measured: too few steps"
    if result.steps_per_second:
        speed = f"{result.steps_per_second:.2f} steps/s"
    error = "the dataset has no hold-out"
    if result.holdout_before is not None:
        error = (
            f"{result.holdout_before:.3f} at the start, "
            f"{result.holdout_after:.3f} for the best voice"
        )
    rows = [
        ("run", f"{result.run} ({_ending(result)})"),
        ("steps", f"{result.steps} ({new_steps} of them now)"),
        ("speed", speed),
        ("hold-out log-mel error", error),
        *(("outlook", sentence) for sentence in result.outlook),
    ]
    if result.spent:
        rows.append(("budget", result.spent))
    if result.skipped:
        rows.append(("skipped", f"{result.skipped} steps without a finite loss and gradient"))
    if result.has_ended:
        rows.append(("report", str(places.join(result.run, "report.html"))))
    return rows


def _ending(result: TrainResult) -> str:
    if result.used_up:
        return "the budget is used up; the same command with a larger one continues"
    if result.interrupted:
        return "interrupted; the same command continues"
    return result.stopped or "finished"
