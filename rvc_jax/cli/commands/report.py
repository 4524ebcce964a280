"""`rvc-jax report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import (
    Json,
    OptionalPath,
    OptionalPlace,
    RunArgument,
    check_output_file,
)
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.storage.places import Location


def report(
    run: RunArgument,
    dataset: OptionalPlace = None,
    out: OptionalPath = None,
    as_json: Json = False,
) -> int:
    """Write the report of a run, also during training: curves, hold-out samples to listen to, and
    what more epochs would bring.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL.
        dataset: Dataset with the hold-out; by default the run's own. If that is missing, the report
            has no audio.
        out: Page to write (.html); by default report.html in the run.
    """
    start_jax()
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.history import select_evaluations
    from rvc_jax.runs.learning_curve import summary
    from rvc_jax.runs.mirror import fetch_run
    from rvc_jax.storage import places

    if out is not None:
        check_output_file(out)
    folder = RunFolder.open(fetch_run(run, "history.jsonl", "best", "checkpoints"))
    missing = write_report_of_run(folder.path, dataset, out, run)
    page = out or places.join(run, "report.html")
    if out is None and places.is_remote(run):
        places.put(folder.path / "report.html", str(page))
    history = folder.history()
    sentences = summary(history, folder.preset.train)
    rows = [
        ("page", str(page)),
        ("evaluations", str(len(select_evaluations(history)))),
        *(("outlook", sentence) for sentence in sentences),
    ]
    notice = folder.describe_damage()
    if notice:
        rows.append(("history", notice))
    if missing:
        rows.append(("without sound", missing))
    print_result({"out": page, "outlook": sentences, "without_sound": missing}, rows, as_json)
    return 0


def write_report_of_run(
    run: Path,
    dataset: Location | None = None,
    out: Path | None = None,
    named_run: Location | None = None,
) -> str:
    """Write the page of a run, and return why if the hold-out could not be rendered into it.

    Args:
      run: folder of the run.
      dataset: where the hold-out is, by default the run's own dataset. The page is written even if
        that cannot be read.
      out: the page's file, by default `report.html` in the run.
      named_run: the run as the user named it, if `run` is a copy of it.

    Raises:
      UserError: a dataset was named and cannot be read.
    """
    from rvc_jax.data.dataset import load_holdout
    from rvc_jax.report import write_report
    from rvc_jax.report.holdout_clips import render_holdout_clips
    from rvc_jax.runs.folder import RunFolder

    folder = RunFolder.open(run)
    clips = []
    missing = ""
    try:
        place = folder.find_dataset(dataset, named_run or run)
        clips = render_holdout_clips(folder, load_holdout(place))
    except UserError as error:
        if dataset is not None:
            raise
        missing = str(error)
    table = [("without sound", missing)] if missing else ()
    write_report(folder, out or run / "report.html", clips, table=table)
    return missing
