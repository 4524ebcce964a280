"""`rvc-jax evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import (
    Encoder,
    Json,
    Measurement,
    OptionalPath,
    OptionalPlace,
    Which,
)
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.metrics.conversion import ConversionReport

_OptionalRun = Annotated[
    Positional[str | None], tyro.conf.arg(metavar="[RUN]", help_behavior_hint="")
]


def evaluate(
    comparison: Measurement,
    run: _OptionalRun = None,
    dataset: OptionalPlace = None,
    voice: Which = "best",
    source: OptionalPath = None,
    converted: OptionalPath = None,
    target: OptionalPath = None,
    reference: OptionalPath = None,
    content_encoder: Encoder = None,
    as_json: Json = False,
) -> int:
    """Measure a voice on its hold-out speech, or measure converted recordings.

    Recordings need no run: give --converted, and --source, --target or --reference. Some metrics
    need the extra `eval`; a metric that is not available is left out, with a note.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL.
        dataset: Dataset whose hold-out to use; by default the run's own.
        voice: Which voice of the run: the best by the hold-out, or the latest.
        source: The input of the conversion: a recording, or a folder of them.
        converted: The output of the conversion, by any program: a recording, or a folder whose
            recordings have the same names as the sources.
        target: The target speaker: a recording, or a folder of them.
        reference: The target speaker saying the same words: a recording, or a folder like that of
            the sources.
    """
    recordings = (source, converted, target, reference)
    if run is None and not any(recordings):
        raise UserError(
            "nothing to evaluate: name a run, or recordings with --source and --converted (--help)"
        )
    if run is not None and any(recordings):
        raise UserError(
            "name a run to evaluate its voice, or recordings to compare them: not both"
        )
    start_jax()
    if run is not None:
        metrics = _evaluate_run(run, dataset, voice, content_encoder)
        rows = [(name.replace("_", " "), _format(value)) for name, value in metrics.items()]
        print_result(metrics, rows, as_json)
        return 0
    if converted is None:
        raise UserError(
            "there is nothing to measure without --converted: name the recording that came out"
        )
    from rvc_jax.metrics.conversion import measure_conversions

    with Display() as display:
        measured = measure_conversions(
            converted,
            source,
            target,
            reference,
            comparison,
            display,
        )
    print_result(measured, _rows(measured), as_json)
    return 0


def _evaluate_run(
    run: str, dataset: str | None, voice: Which, content_encoder: str | None
) -> dict[str, Any]:
    from rvc_jax.data.dataset import load_holdout
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
    from rvc_jax.storage import places
    from rvc_jax.train.evaluator import evaluate as evaluate_run
    from rvc_jax.voices.encoders import check_encoder

    folder = RunFolder.open(fetch_run(run, VOICE_FOLDERS[voice]))
    trained = folder.dataset
    check_encoder(
        trained.content_encoder,
        trained.content_fingerprint,
        folder.preset.version,
        content_encoder,
    )
    place = folder.find_dataset(dataset, run)
    if dataset is None and not places.exists(place):
        raise UserError(
            f"the dataset of {run} is not at {place} any more: name it with --dataset"
        )
    return evaluate_run(folder, load_holdout(place), voice)


def _rows(measured: ConversionReport) -> Iterator[tuple[str, str]]:
    """Yield the metrics of one conversion, or the means and a line per conversion; then notes."""
    from rvc_jax.metrics.conversion_table import format_rows, summarize

    conversions = measured.conversions
    is_single = len(conversions) == 1
    if not is_single:
        yield "conversions", f"{len(conversions)}; means over those that have a figure:"
    yield from format_rows(measured.mean)
    for item in conversions:
        if not is_single:
            yield item.name, summarize(item.figures)
        else:
            for name, text in item.transcripts.items():
                yield f"words of {name}", text or "(none)"
        for note in item.notes:
            yield "note", note if is_single else f"{item.name}: {note}"
    for note in measured.notes:
        yield "note", note
    methods = [f"{name}: {method}" for name, method in measured.methods.items()]
    yield "measured with", ", ".join(methods)


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
