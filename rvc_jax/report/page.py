"""The page itself: tables, sounds and pictures, all inside one HTML file."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from rvc_jax import __version__
from rvc_jax.audio.filters import resample
from rvc_jax.config import AudioConfig
from rvc_jax.files import replacing
from rvc_jax.infer.melody import METHOD, Melody
from rvc_jax.report import figures
from rvc_jax.runs import RunFolder

_STYLE = """
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1f2933; background: #f5f7fa }
main { max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; padding: 1.1rem 1.4rem 1.3rem }
section { margin: 1.2rem 0 } h1 { font-size: 1.7rem; margin: 0 }
h2 { font-size: 1.15rem; margin: 0 0 .4rem } h3 { font-size: 1rem; margin: 1.3rem 0 0 }
p { margin: .25rem 0 .6rem; max-width: 46rem } p.lead, figcaption, .small { color: #52606d }
figure { margin: .6rem 0 0 } figcaption { font-size: .9rem } img { width: 100%; height: auto; display: block }
audio { width: 100%; height: 2.3rem; margin: .35rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td { padding: .32rem .5rem; border-top: 1px solid #eef1f4; vertical-align: top } tr:first-child td { border-top: 0 }
td:first-child { color: #52606d; width: 18rem } pre { white-space: pre-wrap; font: .82rem/1.45 ui-monospace, monospace }
"""


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
    melody: Melody | None = None,
    table: Sequence[tuple[str, str]] = (),
    notices: Sequence[str] = (),
) -> None:
    """Writes a run's report as one self-contained page.

    clips: shown in order on one time scale. melody: a recording's pitch and its conversion's. table: rows shown first.
    notices: licence texts of what the page contains.
    """
    sections = [
        _section("In numbers", _table([*table, *_facts(run)])),
        _sounds(clips, run.preset.audio),
        _pitch(melody),
        _curves(run),
        _section("Licences", "".join(f"<pre>{html.escape(notice)}</pre>" for notice in notices)),
    ]
    title = f"Voice “{html.escape(run.dataset.speakers[0])}”"
    lead = f"A report of rvc-jax {__version__} on the run <code>{html.escape(str(run.path.name))}</code>."
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><main><h1>{title}</h1><p class="lead">{lead}</p>{"".join(sections)}</main></body></html>\n'
    )
    with replacing(out) as file:
        file.write(page.encode())


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    info, recipe, audio = run.dataset, run.preset.train, run.preset.audio
    rows = [
        ("voice format", f"{run.preset.name} (RVC {run.preset.version}, {audio.sample_rate} Hz)"),
        ("speech", f"{info.speech_minutes:.1f} min of {info.source_minutes:.1f} min in {info.files} files"),
        ("slices", f"{info.train_slices} to train on, {info.holdout_slices} held out ({info.holdout_seconds:.0f} s)"),
        ("pitch and content", f"{info.f0_method}, {info.content_encoder} ({info.content_channels} channels)"),
        ("median pitch of the voice", f"{info.median_f0:.0f} Hz"),
        ("recipe", f"{recipe.epochs} epochs, {recipe.batch_per_chip} per chip, learning rate {recipe.learning_rate:g}"),
    ]
    if info.dropped:
        rows.append(("left out", "; ".join(f"{drop.file}: {drop.reason}" for drop in info.dropped[:20])))
    return rows


def _sounds(clips: Sequence[Clip], audio: AudioConfig) -> str:
    if not clips:
        return ""
    seconds = max(len(clip.wave) / clip.rate for clip in clips)
    parts = [
        "<p>Each picture shows how much energy (bright) a sound has at which pitch (upwards) at which moment. "
        "The stripes are the harmonics of the voice: they should be narrow, and rise and fall with the melody.</p>"
    ]
    for clip in clips:
        picture = figures.mel_figure(resample(clip.wave, clip.rate, audio.sample_rate), audio, seconds)
        parts.append(f"<h3>{html.escape(clip.title)}</h3><p class='small'>{html.escape(clip.caption)}</p>")
        parts.append(f'<audio controls preload="none" src="{_flac(clip.wave, clip.rate)}"></audio>')
        parts.append(_image(picture, f"Log-mel spectrogram: {clip.title}"))
    return _section("Listen and look", "".join(parts))


def _pitch(melody: Melody | None) -> str:
    if melody is None:
        return ""
    picture = figures.pitch_figure([("recording", melody.source), ("converted", melody.converted)])
    caption = (
        "The same melody, shifted to the range of the voice: the two curves should run in parallel. "
        f"Measured with {METHOD}, which has no part in the conversion; "
        f"correlation of log f0 where both are voiced: {melody.correlation:.3f}."
    )
    return _section("Pitch", _image(picture, "Pitch of the recording and of its conversion", caption))


def _curves(run: RunFolder) -> str:
    history = run.history()
    learning = figures.learning_figure(history, run.preset.train.mel_weight)
    losses = figures.losses_figure(history)
    parts = []
    if learning:
        caption = (
            "How far the voice's log-mel is from the real one. The blue curve is measured on speech the training never "
            "saw, rendered from content and pitch alone as a conversion is; while it falls, more training helps. "
            "The voice of its lowest point is kept."
        )
        parts.append(_image(learning, "Log-mel error over the steps", caption))
    if losses:
        caption = (
            "Terms of the losses. They balance each other and need not fall; one that runs away to zero or upwards "
            "is a warning."
        )
        parts.append(_image(losses, "Terms of the losses over the steps", caption))
    return _section("Learning", "".join(parts))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _image(png: bytes, alternative: str, caption: str = "") -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{html.escape(alternative)}" src="{source}">{text}</figure>'


def _flac(wave: np.ndarray, rate: int) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"
