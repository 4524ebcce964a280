"""The quick start: prepares, trains, measures and uses the bundled voice in one call."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from rvc_jax.audio.reading import decode, find_audio
from rvc_jax.audio.writing import save
from rvc_jax.config import ConvertConfig, PrepareConfig, to_dict
from rvc_jax.data.dataset import load_dataset, read_info
from rvc_jax.data.prepare import prepare
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.voice import Voice
from rvc_jax.metrics.pitch import PITCH_METHOD, PitchTracks, track_pitch
from rvc_jax.report import Clip, write_report
from rvc_jax.report.holdout_clips import render_holdout_clips
from rvc_jax.reporter import Reporter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.progress import TrainResult
from rvc_jax.storage.environment import peak_memory
from rvc_jax.train.loop import train
from rvc_jax.voices.model import VoiceModel


@dataclasses.dataclass(frozen=True)
class QuickstartResult:
    """The figures of a quick start."""

    speech_minutes: float
    train_slices: int
    holdout_slices: int
    steps: int
    steps_per_second: float | None
    """None if an earlier command had trained the voice."""
    holdout_before: float
    """Log-mel error of the untrained voice."""
    holdout_after: float
    """Log-mel error of the best voice."""
    transpose: float
    """Semitones from the other speaker's range to the voice's."""
    f0_correlation: float
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
            f"{self.holdout_before:.3f} untrained, "
            f"{self.holdout_after:.3f} trained: {fall:.0f} % lower"
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
            ("time and memory", f"{self.seconds:.0f} s, at most {memory}"),
            ("files", ", ".join(str(path) for path in self.files)),
        ]


def quickstart(
    out: Path, reporter: Reporter, epochs: int | None = None
) -> QuickstartResult | None:
    """Make `dataset/`, `run/`, `converted.wav` and `report.html` in a folder.

    Complete results of an earlier call are used again.

    Args:
      out: the folder.
      reporter: shows the progress.
      epochs: passes over the speech, by default those of the preset nano.

    Returns:
      The figures, or None if Ctrl-C ended the training.

    Raises:
      UserError: the folder holds something else, or the bundled sample is not installed.
    """
    began = time.monotonic()
    sample = find_bundled_sample("voice")
    dataset = out / "dataset"
    _prepare_once(sample, dataset, reporter)
    trained = train(
        dataset,
        out / "run",
        overrides={"epochs": epochs} if epochs else {},
        reporter=reporter,
    )
    if trained.interrupted:
        return None
    run = RunFolder.open(out / "run")
    reporter.message("converting another speaker's words")
    other = find_audio(find_bundled_sample("other"))[0]
    channels, rate = decode(other)
    voice = Voice(VoiceModel.from_run(run))
    converted = voice.convert_recording(
        channels, rate, ConvertConfig(auto_transpose=True), reporter
    )
    wave = converted.to_array()
    save(out / "converted.wav", wave, converted.rate)
    reporter.message("measuring the melody and writing the report")
    source = channels.mean(axis=0)
    melody = track_pitch(source, rate, wave, converted.rate)
    result = _result(run, trained, converted, melody, out, time.monotonic() - began)
    clips = [
        *_conversion_clips(source, rate, converted, wave),
        *render_holdout_clips(run, load_dataset(dataset)),
    ]
    notices = [(folder / "LICENSE.txt").read_text() for folder in (sample, other.parent)]
    write_report(run, out / "report.html", clips, melody, result.rows(), notices)
    return result


def _prepare_once(source: Path, out: Path, reporter: Reporter) -> None:
    config = PrepareConfig(preset="nano").resolved()
    if not out.is_dir() or not any(out.iterdir()):
        prepare(source, out, config, reporter)
    elif read_info(out).config != to_dict(config):
        raise UserError(
            f"{out} was prepared with other settings: "
            "remove it, or name another folder with --out"
        )
    else:
        reporter.message(f"{out} is there already and is used again")


def _result(
    run: RunFolder,
    trained: TrainResult,
    converted: ConvertedAudio,
    melody: PitchTracks,
    out: Path,
    seconds: float,
) -> QuickstartResult:
    # The bundled voice has a hold-out, so that both errors are known.
    assert trained.holdout_before is not None
    assert trained.holdout_after is not None
    return QuickstartResult(
        speech_minutes=run.dataset.speech_minutes,
        train_slices=run.dataset.train_slices,
        holdout_slices=run.dataset.holdout_slices,
        steps=trained.steps,
        steps_per_second=trained.steps_per_second,
        holdout_before=trained.holdout_before,
        holdout_after=trained.holdout_after,
        transpose=converted.transpose,
        f0_correlation=melody.correlation,
        seconds=seconds,
        peak_memory_bytes=peak_memory(),
        files=tuple(out / name for name in ("report.html", "converted.wav", "run", "dataset")),
    )


def _conversion_clips(
    source: np.ndarray, rate: int, converted: ConvertedAudio, wave: np.ndarray
) -> list[Clip]:
    return [
        Clip(
            "The recording (source)",
            "Another speaker, whose words and melody the conversion keeps.",
            source,
            rate,
        ),
        Clip(
            "Converted",
            "The same words at the same time, with the harmonics as far apart as the voice has "
            f"them: the pitch was shifted by {converted.transpose:+g} semitones.",
            wave,
            converted.rate,
        ),
    ]
