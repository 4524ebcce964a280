"""`rvc-jax prepare`."""

from __future__ import annotations

from typing import Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, format_drop, print_result
from rvc_jax.cli.options import Flag, Json, OptionalPlace, Preparation, Text
from rvc_jax.storage.environment import start_jax

_Speech = Annotated[Positional[str], tyro.conf.arg(metavar="SOURCE")]
_Out = Annotated[str, tyro.conf.arg(metavar="PATH")]
_Runner = Annotated[str | None, tyro.conf.arg(metavar="RUNNER", help_behavior_hint="")]


def prepare(
    source: _Speech,
    out: _Out,
    preparation: Preparation,
    overwrite: Flag = False,
    cache: OptionalPlace = None,
    beam: _Runner = None,
    beam_options: Text = "",
    as_json: Json = False,
) -> int:
    """Turn recordings into a dataset. Computed features are cached: run it again to continue, or
    after adding files.

    Args:
        source: Folder of recordings (any format and rate; each sub-folder is a speaker), one
            recording, or a recipe (.toml). May be a gs:// or s3:// URL.
        out: Folder to make, or its gs:// or s3:// URL. It is a dataset of TensorFlow Datasets.
        overwrite: Replace an existing dataset.
        cache: Folder for computed features, shared by Beam's workers; by default one in the user's
            cache.
        beam: Run on Apache Beam: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner.
        beam_options: Options for the runner, as one string: "--direct_num_workers=4".
    """
    start_jax()
    import jax

    from rvc_jax.data.drop_advice import advise_on_drops
    from rvc_jax.data.prepare import BeamSettings
    from rvc_jax.data.prepare import prepare as run_prepare
    from rvc_jax.data.preset_advice import advise_on_preset

    settings = BeamSettings(beam, beam_options) if beam else None
    with Display() as display:
        info = run_prepare(source, out, preparation, display, overwrite, cache, settings)
    speakers = zip(info.speakers, info.speaker_minutes, info.speaker_median_f0, strict=True)
    slices = (
        f"{info.train_slices} to train on, "
        f"{info.holdout_slices} held out ({info.holdout_seconds:.0f} s)"
    )
    # Said before the work as well. Here, at the end, it is seen.
    on_preset = advise_on_preset(preparation.preset, jax.default_backend())
    advice = advise_on_drops((drop.reason for drop in info.dropped), preparation)
    rows = [
        ("dataset", str(out)),
        ("files", f"{info.files} read, {len(info.skipped)} skipped"),
        ("speech", f"{info.speech_minutes:.1f} of {info.source_minutes:.1f} min"),
        ("slices", slices),
        *(
            (f"speaker {number}", f"{name}: {minutes:.1f} min, median pitch {f0:.0f} Hz")
            for number, (name, minutes, f0) in enumerate(speakers)
        ),
        *(("dropped", format_drop(drop)) for drop in info.dropped),
        *(("advice", text) for text in advice),
        *([("advice", on_preset)] if on_preset else []),
        *(("note", note) for note in info.notes),
    ]
    print_result({"path": str(out), **info.to_dict()}, rows, as_json)
    return 0
