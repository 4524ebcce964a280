"""Writes the table of docs/quality.md: metrics of conversions to the bundled voice, beside the
metrics of the original recordings.

    rvc-jax download resemblyzer dnsmos faster-whisper-tiny.en && pip install -e ".[eval]"
    python tests/benchmarks/quality_table.py rvc_jax_quickstart/run

The argument is a run of the bundled voice, such as the run of `rvc-jax quickstart`. Its best voice
converts the bundled sentence of another speaker and slices of the run's hold-out. Both conversions
and their sources are measured, and the table is rewritten.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from page_table import write_table

from rvc_jax.audio.reading import find_audio
from rvc_jax.audio.writing import save
from rvc_jax.config import ConvertConfig
from rvc_jax.data.dataset import load_dataset
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.infer.files import convert_file
from rvc_jax.metrics.conversion import ConversionReport, measure_conversions
from rvc_jax.metrics.conversion_table import format_rows
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation
from rvc_jax.storage.environment import start_jax

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"
BEGIN = "<!-- quality_table.py -->"
END = "<!-- end of quality_table.py -->"
HOLDOUT_SLICES = 4


def measured(run: RunFolder, folder: Path) -> dict[str, ConversionReport]:
    """Metrics by column heading. The recordings are written to the folder."""
    voice = find_bundled_sample("voice")
    sentence = find_audio(find_bundled_sample("other"))[0]
    spoken = folder / "sentence.wav"
    convert_file(run.path, sentence, spoken, ConvertConfig(auto_transpose=True))
    real = folder / "holdout"
    rendered = folder / "holdout_converted"
    write_holdout(run, real)
    rendered.mkdir()
    for path in find_audio(real):
        convert_file(run.path, path, rendered / path.name, ConvertConfig())
    return {
        "a sentence, converted": measure_conversions(spoken, sentence, voice),
        "the sentence itself": measure_conversions(sentence, sentence, voice),
        "hold-out, converted": measure_conversions(rendered, real, voice, real),
        "the hold-out itself": measure_conversions(real, real, voice, real),
    }


def write_holdout(run: RunFolder, folder: Path) -> None:
    """Writes the first slices of the run's hold-out as recordings."""
    holdout = load_dataset(run.dataset_path).holdout
    audio = run.preset.audio
    folder.mkdir()
    for i in range(min(HOLDOUT_SLICES, len(holdout))):
        save(
            folder / f"{i}.wav",
            holdout.samples(i)[: int(holdout.lengths[i]) * audio.hop],
            audio.sample_rate,
        )


def text(columns: dict[str, ConversionReport], run: RunFolder) -> str:
    """The Markdown table, and the sentences below it."""
    rows = {heading: dict(format_rows(column.mean)) for heading, column in columns.items()}
    lines = [f"| | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    for label in dict.fromkeys(label for column in rows.values() for label in column):
        lines.append(
            f"| {label} | {' | '.join(column.get(label, '-') for column in rows.values())} |"
        )
    counts = ", ".join(str(len(column.conversions)) for column in columns.values())
    best = best_evaluation(run.history()) or {}
    lines += [
        "",
        f"Preset {run.preset.name}, the best voice, of step {best.get('step', '?')}, "
        f"from {run.dataset.speech_minutes:.1f} minutes of speech; "
        f"conversions per column: {counts}. "
        f"Measured with {', '.join(columns['a sentence, converted'].methods.values())}.",
    ]
    for column in columns.values():
        lines += [f"{note}." for note in column.notes if "not measured" in note]
    return "\n".join(dict.fromkeys(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run of the bundled voice")
    options = parser.parse_args()
    start_jax()
    run = RunFolder.open(options.run)
    with tempfile.TemporaryDirectory() as folder:
        written = text(measured(run, Path(folder)), run)
    write_table(PAGE, BEGIN, END, written)


if __name__ == "__main__":
    main()
