"""The page of a run: what it learnt, to be heard and seen."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.config import AudioConfig
from rvc_jax.metrics.holdout import format_metrics
from rvc_jax.metrics.pitch import PITCH_METHOD, PitchTracks
from rvc_jax.report import html as blocks
from rvc_jax.report import plots
from rvc_jax.runs import learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation, better_voice, evaluation_metrics, evaluations
from rvc_jax.storage.files import atomic_write
from rvc_jax.version import __version__


@dataclasses.dataclass(frozen=True)
class Clip:
    """A sound to be heard and seen."""

    title: str
    caption: str
    """What to look and listen for."""
    wave: np.ndarray
    """[samples]."""
    rate: int


def write_report(
    run: RunFolder,
    out: Path,
    clips: Sequence[Clip] = (),
    melody: PitchTracks | None = None,
    table: Sequence[tuple[str, str]] = (),
    notices: Sequence[str] = (),
) -> None:
    """Writes a run's report as one self-contained page.

    clips: shown in order on one time scale. melody: a recording's pitch and its conversion's.
    table: rows shown first. notices: licence texts of what the page contains.
    """
    sections = [
        blocks.section("In numbers", blocks.table([*table, *_measured(run), *_facts(run)])),
        blocks.section(
            "Outlook",
            "".join(
                f"<p>{html.escape(text[0].upper() + text[1:])}.</p>" for text in _outlook(run)
            ),
        ),
        _sounds(clips, run.preset.audio),
        _pitch(melody),
        _curves(run),
        blocks.section(
            "Licences", "".join(f"<pre>{html.escape(notice)}</pre>" for notice in notices)
        ),
    ]
    lead = f"A report of rvc-jax {__version__} on the run <code>{html.escape(str(run.path.name))}</code>."
    with atomic_write(out) as file:
        file.write(blocks.page(f"Voice “{', '.join(run.dataset.speakers)}”", lead, sections))


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    info = run.dataset
    recipe = run.preset.train
    audio = run.preset.audio
    rows = [
        (
            "voice format",
            f"{run.preset.name} (RVC {run.preset.version}, {audio.sample_rate} Hz)",
        ),
        (
            "speech",
            f"{info.speech_minutes:.1f} min of {info.source_minutes:.1f} min in {info.files} files",
        ),
        (
            "slices",
            f"{info.train_slices} to train on, {info.holdout_slices} held out ({info.holdout_seconds:.0f} s)",
        ),
        (
            "pitch and content",
            f"{info.f0_method}, {info.content_encoder} ({info.content_channels} channels)",
        ),
        ("median pitch of the voice", f"{info.median_f0:.0f} Hz"),
        (
            "recipe",
            f"{recipe.epochs} epochs, {recipe.batch_per_chip} per chip, learning rate {recipe.learning_rate:g}",
        ),
    ]
    if info.dropped:
        rows.append(
            ("left out", "; ".join(f"{drop.file}: {drop.reason}" for drop in info.dropped[:20]))
        )
    return rows


def _measured(run: RunFolder) -> list[tuple[str, str]]:
    """Figures of the best voice and of the latest one on the hold-out."""
    history = run.history()
    lines = evaluations(history)
    if not lines:
        return []
    rows = []
    best = best_evaluation(history)
    for name, line, which in (
        ("best voice", best, best.get("best/which", "raw")),
        (
            "latest evaluation",
            lines[-1],
            better_voice(lines[-1], run.preset.train.best_by)[0],
        ),
    ):
        averaged = " (averaged weights)" if which == "ema" else ""
        rows.append(
            (
                name,
                f"step {line['step']}{averaged}: {format_metrics(evaluation_metrics(line, which))}",
            )
        )
    return rows


def _outlook(run: RunFolder) -> list[str]:
    return learning_curve.summary(run.history(), run.preset.train)


def _sounds(clips: Sequence[Clip], audio: AudioConfig) -> str:
    if not clips:
        return ""
    seconds = max(len(clip.wave) / clip.rate for clip in clips)
    parts = [
        "<p>Each picture shows how much energy (bright) a sound has at which pitch (upwards) at which moment. "
        "The stripes are the harmonics of the voice: they should be narrow, and rise and fall with the melody.</p>"
    ]
    for clip in clips:
        picture = plots.plot_mel(
            resample(clip.wave, clip.rate, audio.sample_rate), audio, seconds
        )
        parts.append(
            f"<h3>{html.escape(clip.title)}</h3><p class='small'>{html.escape(clip.caption)}</p>"
        )
        parts.append(blocks.audio(clip.wave, clip.rate))
        parts.append(blocks.image(picture, f"Log-mel spectrogram: {clip.title}"))
    return blocks.section("Listen and look", "".join(parts))


def _pitch(melody: PitchTracks | None) -> str:
    if melody is None:
        return ""
    picture = plots.plot_pitch([("recording", melody.source), ("converted", melody.converted)])
    caption = (
        "The same melody, shifted to the range of the voice: the two curves should run in parallel. "
        f"Measured with {PITCH_METHOD}, which has no part in the conversion; "
        f"correlation of log f0 where both are voiced: {melody.correlation:.3f}."
    )
    return blocks.section(
        "Pitch", blocks.image(picture, "Pitch of the recording and of its conversion", caption)
    )


def _curves(run: RunFolder) -> str:
    history = run.history()
    learning = plots.plot_learning_curve(history, run.preset.train.mel_weight)
    measures = plots.plot_metrics(history)
    losses = plots.plot_losses(history)
    parts = []
    if learning:
        caption = (
            "How far the voice's log-mel is from the real one. The blue curve is measured on speech the training never "
            "saw, rendered from content and pitch alone as a conversion is; while it falls, more training helps. "
            "The voice of its lowest point is kept."
        )
        parts.append(blocks.image(learning, "Log-mel error over the steps", caption))
    if measures:
        caption = (
            "The hold-out by every measure, the dotted line at the voice that is kept. Pitch and speaker are compared "
            "with those of the real recording by the same method. Lower is better, but for the similarity."
        )
        parts.append(blocks.image(measures, "Measures of the hold-out over the steps", caption))
    if losses:
        caption = (
            "Terms of the losses. They balance each other and need not fall; one that runs away to zero or upwards "
            "is a warning."
        )
        parts.append(blocks.image(losses, "Terms of the losses over the steps", caption))
    return blocks.section("Learning", "".join(parts))
