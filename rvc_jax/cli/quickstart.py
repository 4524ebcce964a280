"""The quick start: fine-tunes the base voice on the bundled voice, measures and uses it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_jax.audio.reading import decode, find_audio
from rvc_jax.audio.writing import save
from rvc_jax.config import QUICKSTART, ConvertConfig, EvaluateConfig, PrepareConfig, to_dict
from rvc_jax.data.dataset import load_holdout, read_info
from rvc_jax.data.prepare import prepare
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.voice import Voice
from rvc_jax.metrics.clips import ConversionFiles
from rvc_jax.metrics.conversion import (
    WORDS_AND_SPEAKER_HINT,
    ConversionMeter,
    read_target_clips,
)
from rvc_jax.metrics.conversion_table import ConversionMetrics
from rvc_jax.metrics.pitch import PITCH_METHOD, PitchTracks, track_pitch
from rvc_jax.report import write_report
from rvc_jax.report.holdout_clips import render_holdout_clips
from rvc_jax.report.quickstart_clips import describe_sounds, read_target_sample
from rvc_jax.reporter import Reporter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.progress import TrainResult
from rvc_jax.storage.environment import peak_memory
from rvc_jax.train.loop import train
from rvc_jax.voices.base import open_base
from rvc_jax.voices.model import VoiceModel

_PRESET = "small"
_LANGUAGE = "en"
"""Language of the other speaker's sentence."""


@dataclasses.dataclass(frozen=True)
class QuickstartResult:
    """The figures of a quick start. Those of words and speaker are None where not measured."""

    speech_minutes: float
    train_slices: int
    holdout_slices: int
    steps: int
    steps_per_second: float | None
    """None if an earlier command had trained the voice."""
    holdout_before: float
    """Log-mel error of the base voice."""
    holdout_after: float
    """Log-mel error of the best voice."""
    transpose: float
    """Semitones from the other speaker's range to the voice's."""
    f0_correlation: float
    word_error_rate: float | None
    """Word errors of the conversion, relative to the recognizer's transcript of the source."""
    base_word_error_rate: float | None
    """The same of the base voice alone."""
    similarity: float | None
    """Speaker similarity of the conversion to the target."""
    base_similarity: float | None
    """The same of the base voice alone."""
    source_similarity: float | None
    """The same of the source."""
    seconds: float
    peak_memory_bytes: int
    files: tuple[Path, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Return the figures as rows of a table."""
        speed = "trained before"
        if self.steps_per_second is not None:
            speed = f"{self.steps_per_second:.2f} steps/s"
        fall = 100 * (1 - self.holdout_after / self.holdout_before)
        error = (
            f"{self.holdout_before:.3f} for the base voice, {self.holdout_after:.3f} after "
            f"fine-tuning it: {fall:.0f} % lower"
        )
        correlation = (
            f"{self.f0_correlation:.3f} "
            f"({PITCH_METHOD}, transposed by {self.transpose:+g} semitones)"
        )
        memory = f"{self.peak_memory_bytes / 1e9:.1f} GB"
        return [
            ("speech", f"{self.speech_minutes:.1f} min"),
            ("slices", f"{self.train_slices} to train on, {self.holdout_slices} held out"),
            ("training", f"{self.steps} steps, {speed}"),
            ("hold-out log-mel error", error),
            ("f0 correlation", correlation),
            *self._measured_rows(),
            ("time and memory", f"{self.seconds:.0f} s, at most {memory}"),
            ("files", ", ".join(str(path) for path in self.files)),
        ]

    def _measured_rows(self) -> list[tuple[str, str]]:
        rows = []
        if self.word_error_rate is not None and self.base_word_error_rate is not None:
            text = (
                f"{self.word_error_rate:.0%}, {self.base_word_error_rate:.0%} by the base alone"
            )
            rows.append(("word error rate", text))
        if self.similarity is not None and self.base_similarity is not None:
            text = (
                f"{self.similarity:.2f}, {self.base_similarity:.2f} by the base alone, "
                f"{self.source_similarity:.2f} for the source; about 0.6 for two people, above "
                "0.8 for one"
            )
            rows.append(("similarity to the target", text))
        if len(rows) < 2:
            rows.append(("not measured", WORDS_AND_SPEAKER_HINT))
        return rows


def quickstart(
    out: Path, reporter: Reporter, epochs: int | None = None
) -> QuickstartResult | None:
    """Make `dataset/`, `run/`, `converted.wav`, `base.wav` and `report.html` in a folder.

    Complete results of an earlier call are used again.

    Args:
      out: the folder.
      reporter: shows the progress.
      epochs: passes over the speech; by default a new run ends as `config.QUICKSTART` says.

    Returns:
      The figures, or None if Ctrl-C ended the training.

    Raises:
      UserError: the folder holds something else, or the bundled sample or the base voice is not
        installed.
    """
    began = time.monotonic()
    sample = find_bundled_sample("voice")
    base = open_base(_PRESET)
    dataset = out / "dataset"
    _prepare_once(sample, dataset, reporter)
    trained = train(
        dataset, out / "run", overrides=_choose_limits(out / "run", epochs), reporter=reporter
    )
    if trained.interrupted:
        return None
    run = RunFolder.open(out / "run")
    reporter.message("converting another speaker's words")
    other = find_audio(find_bundled_sample("other"))[0]
    channels, rate = decode(other)
    sounds = _convert(channels, rate, VoiceModel.from_run(run), base, out, reporter)
    reporter.message("measuring the conversion and writing the report")
    source = channels.mean(axis=0)
    melody = track_pitch(source, rate, sounds.converted.to_array(), sounds.converted.rate)
    figures = _measure(sample, other, out)
    result = _result(run, trained, sounds, melody, figures, out, time.monotonic() - began)
    clips = [
        *describe_sounds(
            (source, rate),
            read_target_sample(sample, sounds.converted.rate),
            sounds.converted,
            sounds.base,
            result.steps,
        ),
        *render_holdout_clips(run, load_holdout(dataset)),
    ]
    notices = [(folder / "LICENSE.txt").read_text() for folder in (sample, other.parent)]
    write_report(run, out / "report.html", clips, melody, result.rows(), notices)
    return result


def _choose_limits(run: Path, epochs: int | None) -> dict[str, int]:
    """Return the limits of the training; none for a run that has its own from an earlier call."""
    if epochs:
        return {"epochs": epochs}
    return {} if RunFolder.open_if_any(run) else QUICKSTART


def _prepare_once(source: Path, out: Path, reporter: Reporter) -> None:
    config = PrepareConfig(preset=_PRESET).resolved()
    if not out.is_dir() or not any(out.iterdir()):
        prepare(source, out, config, reporter)
    elif read_info(out).config != to_dict(config):
        raise UserError(
            f"{out} was prepared with other settings: "
            "remove it, or name another folder with --out"
        )
    else:
        reporter.message(f"{out} is there already and is used again")


class _Sounds(NamedTuple):
    """The other speaker's words, by the trained voice and by the base alone."""

    converted: ConvertedAudio
    base: ConvertedAudio


def _convert(
    channels: np.ndarray,
    rate: int,
    voice: VoiceModel,
    base: VoiceModel,
    out: Path,
    reporter: Reporter,
) -> _Sounds:
    """Convert a recording [channels, samples] with both voices, and write both results."""
    config = ConvertConfig(auto_transpose=True)
    converted = Voice(voice).convert_recording(channels, rate, config, reporter)
    # The base's speaker has no pitch of its own: both are shifted alike.
    config = ConvertConfig(transpose=converted.transpose)
    sounds = _Sounds(converted, Voice(base).convert_recording(channels, rate, config, reporter))
    for name, sound in sounds._asdict().items():
        save(out / f"{name}.wav", sound.to_array(), sound.rate)
    return sounds


def _measure(target: Path, source: Path, out: Path) -> dict[str, ConversionMetrics]:
    """Measure words and speaker of both conversions; all None without the models for it."""
    meter = ConversionMeter(EvaluateConfig(language=_LANGUAGE), read_target_clips(target)[0])
    if not meter.has_words_or_speaker:
        return dict.fromkeys(_Sounds._fields, ConversionMetrics())
    return {
        name: meter(ConversionFiles(name, out / f"{name}.wav", source)).figures
        for name in _Sounds._fields
    }


def _result(
    run: RunFolder,
    trained: TrainResult,
    sounds: _Sounds,
    melody: PitchTracks,
    figures: dict[str, ConversionMetrics],
    out: Path,
    seconds: float,
) -> QuickstartResult:
    # The bundled voice has a hold-out, so that both errors are known.
    assert trained.holdout_before is not None
    assert trained.holdout_after is not None
    names = ("report.html", "converted.wav", "base.wav", "run", "dataset")
    return QuickstartResult(
        speech_minutes=run.dataset.speech_minutes,
        train_slices=run.dataset.train_slices,
        holdout_slices=run.dataset.holdout_slices,
        steps=trained.steps,
        steps_per_second=trained.steps_per_second,
        holdout_before=trained.holdout_before,
        holdout_after=trained.holdout_after,
        transpose=sounds.converted.transpose,
        f0_correlation=melody.correlation,
        word_error_rate=figures["converted"].word_error_rate,
        base_word_error_rate=figures["base"].word_error_rate,
        similarity=figures["converted"].similarity,
        base_similarity=figures["base"].similarity,
        source_similarity=figures["converted"].source_similarity,
        seconds=seconds,
        peak_memory_bytes=peak_memory(),
        files=tuple(out / name for name in names),
    )
