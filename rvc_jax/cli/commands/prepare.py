"""`rvc-jax prepare`."""

from __future__ import annotations

from typing import Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, format_drop, print_result
from rvc_jax.cli.options import Json, OptionalPlace
from rvc_jax.config import PrepareConfig
from rvc_jax.storage.environment import start_jax

_Speech = Annotated[Positional[str], tyro.conf.arg(metavar="SOURCE")]
_Runner = Annotated[str | None, tyro.conf.arg(metavar="RUNNER", help_behavior_hint="")]


def prepare(
    source: _Speech,
    out: str,
    preparation: PrepareConfig,
    overwrite: bool = False,
    cache: OptionalPlace = None,
    beam: _Runner = None,
    beam_options: str = "",
    as_json: Json = False,
) -> int:
    """Make a dataset of recordings. What was computed is kept: run it again to continue, or after
    adding files.

    Args:
        source: Folder with recordings (any format, any rate; sub-folders are speakers), one
            recording, or a recipe (.toml). Also at gs:// or s3://.
        out: Folder to make; it becomes a dataset of TensorFlow Datasets. Also at gs:// or s3://.
        overwrite: Replace a dataset that is there already.
        cache: Folder of computed features, which Beam's workers share; by default a folder of this
            user.
        beam: Run on Apache Beam: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner.
        beam_options: Options of the runner, in one string: "--direct_num_workers=4".
    """
    start_jax()
    from rvc_jax.data.prepare import BeamSettings
    from rvc_jax.data.prepare import prepare as run_prepare

    settings = BeamSettings(beam, beam_options) if beam else None
    with Display() as display:
        info = run_prepare(source, out, preparation, display, overwrite, cache, settings)
    speakers = zip(info.speakers, info.speaker_minutes, info.speaker_median_f0, strict=True)
    rows = [
        ("dataset", str(out)),
        ("files", f"{info.files} read, {len(info.skipped)} skipped"),
        ("speech", f"{info.speech_minutes:.1f} of {info.source_minutes:.1f} min"),
        (
            "slices",
            f"{info.train_slices} to train on, {info.holdout_slices} held out ({info.holdout_seconds:.0f} s)",
        ),
        *(
            (f"speaker {number}", f"{name}: {minutes:.1f} min, median pitch {f0:.0f} Hz")
            for number, (name, minutes, f0) in enumerate(speakers)
        ),
        *(("dropped", format_drop(drop)) for drop in info.dropped),
        *(("note", note) for note in info.notes),
    ]
    print_result({"path": str(out), **info.to_dict()}, rows, as_json)
    return 0
