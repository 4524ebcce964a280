"""`rvc-jax report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, OptionalPlace, Run
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.storage.places import Location

OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


def report(
    run: Run, dataset: OptionalPlace = None, out: OptionalPath = None, as_json: Json = False
) -> int:
    """Write the report of a run, also while it trains: curves, the hold-out to be heard, what more
    epochs would bring.

    Args:
        run: Folder of the run, also at gs:// or s3://.
        dataset: Dataset with the hold-out; the run's own if not given. If that is gone, the report
            has no sound.
        out: Page to write (.html); report.html of the run if not given.
    """
    start_jax()
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.history import evaluations
    from rvc_jax.runs.learning_curve import summary
    from rvc_jax.runs.mirror import fetch_run
    from rvc_jax.storage.places import is_remote, join, put

    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise UserError(f"{out} cannot be written: name a file in a folder that exists")
    folder = RunFolder.open(fetch_run(run, "history.jsonl", "best", "checkpoints"))
    missing = write_report_of_run(folder.path, dataset, out)
    if out is None and is_remote(run):
        put(folder.path / "report.html", join(run, "report.html"))
    page = out or join(run, "report.html")
    history = folder.history()
    sentences = summary(history, folder.preset.train)
    rows = [("page", str(page)), ("evaluations", str(len(evaluations(history))))]
    rows += [("outlook", sentence) for sentence in sentences]
    rows += [("without sound", missing)] if missing else []
    print_result({"out": page, "outlook": sentences, "without_sound": missing}, rows, as_json)
    return 0


def write_report_of_run(
    run: Path, dataset: Location | None = None, out: Path | None = None
) -> str:
    """Writes a run's page, and says why if the hold-out could not be rendered into it.

    dataset: the run's own by default, and then the page is written without it too. Raises UserError
    if a named one does not read.
    """
    from rvc_jax.data.dataset import load_dataset
    from rvc_jax.report import write_report
    from rvc_jax.report.holdout_clips import holdout_clips
    from rvc_jax.runs.folder import RunFolder

    folder = RunFolder.open(run)
    clips = []
    missing = ""
    try:
        place = dataset or folder.dataset_path
        if place is None:
            raise UserError(f"{run} does not tell where its dataset is: name it with --dataset")
        clips = holdout_clips(folder, load_dataset(place))
    except UserError as error:
        if dataset is not None:
            raise
        missing = str(error)
    write_report(
        folder,
        out or run / "report.html",
        clips,
        table=[("without sound", missing)] if missing else (),
    )
    return missing
