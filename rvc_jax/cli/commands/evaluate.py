"""`rvc-jax evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, OptionalPlace, Which
from rvc_jax.config import EvaluateConfig
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.metrics.conversion import ConversionReport

_Run = Annotated[Positional[str | None], tyro.conf.arg(metavar="[RUN]", help_behavior_hint="")]
_Sounds = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


def evaluate(
    comparison: EvaluateConfig,
    run: _Run = None,
    dataset: OptionalPlace = None,
    voice: Which = "best",
    source: _Sounds = None,
    converted: _Sounds = None,
    target: _Sounds = None,
    reference: _Sounds = None,
    as_json: Json = False,
) -> int:
    """Measure a voice on the speech that was held out of its training, or measure converted
    recordings.

    Recordings need no run: name --converted, and --source, --target or --reference. What a figure
    needs beyond that comes with the extra `eval`; a figure that cannot be had is left out, with a
    sentence.

    Args:
        run: Folder of the run, also at gs:// or s3://.
        dataset: Dataset whose hold-out to use; the run's own if not given.
        voice: The best voice by the hold-out, or the latest.
        source: What was converted: a recording, or a folder of them.
        converted: What came of it, by any program: a recording, or a folder whose recordings have
            the sources' names.
        target: The target speaker: a recording, or a folder of them.
        reference: The target speaker saying the same words: a recording, or a folder as that of the
            sources.
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
        figures = _of_run(run, dataset, voice)
        print_result(
            figures,
            [(name.replace("_", " "), _text(value)) for name, value in figures.items()],
            as_json,
        )
        return 0
    if converted is None:
        raise UserError(
            "there is nothing to measure without --converted: name the recording that came out"
        )
    from rvc_jax.metrics.conversion import measure_conversions

    with Display() as display:
        compared = measure_conversions(
            converted,
            source,
            target,
            reference,
            comparison,
            lambda done, total, name: display.update("measuring", done, total, name),
        )
    print_result(compared, _rows(compared), as_json)
    return 0


def _of_run(run: str, dataset: str | None, voice: Which) -> dict[str, Any]:
    from rvc_jax.data.dataset import load_dataset
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
    from rvc_jax.train.evaluator import evaluate as run_evaluate

    folder = RunFolder.open(fetch_run(run, VOICE_FOLDERS[voice]))
    dataset = dataset or folder.dataset_path
    if dataset is None:
        raise UserError(f"{run} does not tell where its dataset is: name it with --dataset")
    return run_evaluate(folder, load_dataset(dataset), voice)


def _rows(compared: ConversionReport) -> Iterator[tuple[str, str]]:
    """The figures, or their mean and a line per conversion; then what there is to know."""
    from rvc_jax.metrics.conversion_table import format_rows, summarize

    conversions = compared.conversions
    if len(conversions) > 1:
        yield "conversions", f"{len(conversions)}; means over those that have a figure:"
    yield from format_rows(compared.mean)
    for item in conversions:
        if len(conversions) > 1:
            yield item.name, summarize(item.figures)
        for said, text in item.transcripts.items() if len(conversions) == 1 else ():
            yield f"words of {said}", text or "(none)"
        for note in item.notes:
            yield "note", note if len(conversions) == 1 else f"{item.name}: {note}"
    for note in compared.notes:
        yield "note", note
    yield (
        "measured with",
        ", ".join(f"{what}: {method}" for what, method in compared.methods.items()),
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
