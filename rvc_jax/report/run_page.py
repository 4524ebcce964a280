"""The page of a run: what the voice sounds like, and how the training went."""

from __future__ import annotations

import dataclasses
import html
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.config import AudioConfig
from rvc_jax.errors import sanitize
from rvc_jax.metrics.holdout import format_metrics
from rvc_jax.metrics.pitch import PITCH_METHOD, PitchTracks
from rvc_jax.report import plots
from rvc_jax.report.html import (
    render_audio,
    render_figure,
    render_page,
    render_section,
    render_table,
)
from rvc_jax.runs import learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import (
    SPEECH,
    best_evaluation,
    choose_better_voice,
    get_evaluation_metrics,
    select_evaluations,
)
from rvc_jax.storage.files import atomic_write
from rvc_jax.version import __version__

_DROPS_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Clip:
    """A sound on a page, with its spectrogram."""

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
    """Write the report of a run as one self-contained page.

    Args:
      run: the run.
      out: the page's file.
      clips: sounds, shown in this order on one time scale.
      melody: pitch of a recording and of its conversion.
      table: rows shown before the run's own.
      notices: license texts of what the page contains.
    """
    outlook = learning_curve.summary(run.history(), run.preset.train)
    sections = [
        render_section("In numbers", render_table([*table, *_scores(run), *_facts(run)])),
        render_section("Outlook", "".join(map(_paragraph, outlook))),
        _render_sounds(clips, run.preset.audio),
        _render_pitch(melody),
        _render_learning(run),
        render_section(
            "Licenses", "".join(f"<pre>{html.escape(each)}</pre>" for each in notices)
        ),
    ]
    name = html.escape(str(run.path.name))
    lead = f"A report of rvc-jax {__version__} on the run <code>{name}</code>."
    title = f"Voice “{', '.join(run.dataset.speakers)}”"
    with atomic_write(out) as file:
        file.write(render_page(title, lead, sections))


def _paragraph(sentence: str) -> str:
    return f"<p>{html.escape(sentence[0].upper() + sentence[1:])}.</p>"


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    info = run.dataset
    recipe = run.preset.train
    preset = run.preset
    slices = (
        f"{info.train_slices} to train on, "
        f"{info.holdout_slices} held out ({info.holdout_seconds:.0f} s)"
    )
    rows = [
        (
            "voice format",
            f"{preset.name} (RVC {preset.version}, {preset.audio.sample_rate} Hz)",
        ),
        (
            "speech",
            f"{info.speech_minutes:.1f} min of {info.source_minutes:.1f} min "
            f"in {info.files} files",
        ),
        ("slices", slices),
        *_dataset_changes(run),
        (
            "pitch and content",
            f"{info.f0_method}, {info.content_encoder} ({info.content_channels} channels)",
        ),
        ("median pitch of the voice", f"{info.median_f0:.0f} Hz"),
        (
            "recipe",
            f"{recipe.length}, {recipe.batch_per_chip} per chip, "
            f"learning rate {recipe.learning_rate:g}",
        ),
    ]
    if info.dropped:
        drops = [f"{drop.file}: {drop.reason}" for drop in info.dropped[:_DROPS_SHOWN]]
        rows.append(("left out", "; ".join(drops)))
    return rows


def _dataset_changes(run: RunFolder) -> list[tuple[str, str]]:
    """Return a row for every dataset that the run was trained on before the present one."""
    datasets = run.datasets()
    return [
        (
            f"until step {after['step']}",
            f"another dataset ({sanitize(before.get(SPEECH, ''), 200)}); all scores and curves of "
            "this page are of the present one",
        )
        for before, after in itertools.pairwise(datasets)
    ]


def _scores(run: RunFolder) -> list[tuple[str, str]]:
    """Return the hold-out metrics of the best voice and of the latest one."""
    history = run.history()
    lines = select_evaluations(history)
    best = best_evaluation(history)
    if not lines or best is None:
        return []
    which_latest = choose_better_voice(lines[-1], run.preset.train.best_by)[0]
    return [
        ("best voice", _score(best, best.get("best/which", "raw"))),
        ("latest evaluation", _score(lines[-1], which_latest)),
    ]


def _score(line: Mapping[str, Any], which: str) -> str:
    averaged = " (averaged weights)" if which == "ema" else ""
    return (
        f"step {line['step']}{averaged}: {format_metrics(get_evaluation_metrics(line, which))}"
    )


def _render_sounds(clips: Sequence[Clip], audio: AudioConfig) -> str:
    if not clips:
        return ""
    seconds = max(len(clip.wave) / clip.rate for clip in clips)
    parts = [
        "<p>Each picture shows the energy of a sound (bright is loud) by frequency (upwards) and "
        "time. The stripes are the harmonics of the voice: they should be narrow, and rise and "
        "fall with the melody.</p>"
    ]
    for clip in clips:
        title = html.escape(clip.title)
        caption = html.escape(clip.caption)
        wave = resample(clip.wave, clip.rate, audio.sample_rate)
        picture = plots.plot_mel(wave, audio, seconds, f"Log-mel spectrogram: {clip.title}")
        parts += [
            f"<h3>{title}</h3><p class='small'>{caption}</p>",
            render_audio(clip.wave, clip.rate),
            render_figure(picture),
        ]
    return render_section("Listen and look", "".join(parts))


def _render_pitch(melody: PitchTracks | None) -> str:
    if melody is None:
        return ""
    curves = [("recording", melody.source), ("converted", melody.converted)]
    picture = plots.plot_pitch(curves, "Pitch of the recording and of its conversion")
    caption = (
        "The same melody, shifted to the range of the voice: the two curves should run in "
        f"parallel. Measured with {PITCH_METHOD}, which the conversion does not use; "
        f"correlation of log f0 where both are voiced: {melody.correlation:.3f}."
    )
    return render_section("Pitch", render_figure(picture, caption))


def _render_learning(run: RunFolder) -> str:
    history = run.history()
    charts = [
        (
            plots.plot_learning_curve(
                history, run.preset.train.mel_weight, "Log-mel error over the steps"
            ),
            "How far the voice's log-mel spectrogram is from the real one. The blue curve is "
            "measured on held-out speech, rendered from content and pitch alone as in a "
            "conversion; while it falls, more training helps. The voice of its lowest point is "
            "kept.",
        ),
        (
            plots.plot_metrics(history, "Metrics of the hold-out over the steps"),
            "All metrics of the hold-out; the dotted line is the voice that is kept. Pitch and "
            "speaker are compared with those of the real recording by the same method. Lower is "
            "better, except for the similarity.",
        ),
        (
            plots.plot_losses(history, "Terms of the losses over the steps"),
            "Terms of the losses. They balance each other and need not fall; one that runs away "
            "to zero or upwards is a warning.",
        ),
    ]
    figures = [render_figure(chart, caption) for chart, caption in charts if chart]
    return render_section("Learning", "".join(figures))
