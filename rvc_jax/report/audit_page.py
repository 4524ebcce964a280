"""The page of `rvc-jax audit`: the quality of a dataset in one self-contained file."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.mel_image import draw_log_mel
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import PRESETS, WINDOW_FRAMES
from rvc_jax.data.audit.advice import Advice, name_note
from rvc_jax.data.audit.audit import Audit, Histogram, SpeakerAudit, WorstSlice
from rvc_jax.report.html import (
    render_audio,
    render_figure,
    render_image,
    render_page,
    render_section,
    render_table,
)
from rvc_jax.report.plots import Curve, plot_histogram, plot_spectra
from rvc_jax.report.svg import BLUE, ORANGE
from rvc_jax.storage.files import atomic_write
from rvc_jax.version import __version__

_PLAYER_RATE = 24000
"""Highest sample rate in Hz of the sounds on the page, which bounds its size."""
_MAX_ROWS = 20
_MAX_SPEAKERS = 6
_NEGLIGIBLE_SHARE = 0.005
"""Bars below this share of the tallest one are cut off at the ends of a histogram."""
_STYLE = """
.good, .notice, .problem { border-radius: 4px; padding: .05rem .45rem }
.good, .notice, .problem { font-size: .85rem; white-space: nowrap }
.good { background: #e3f5e8; color: #1b6e36 }
.notice { background: #fdf3d8; color: #7a5600 }
.problem { background: #fde3e1; color: #9b1c14 }
td:nth-child(3) { white-space: nowrap }
.advice td:first-child { width: 9rem }
.advice td:nth-child(2) { width: 5rem }
.advice td { white-space: normal }
.slice { display: grid; grid-template-columns: 17rem 1fr; gap: .2rem 1.2rem; margin-top: 1.2rem }
.slice img { height: 8.6rem }
.slice figure { margin: 0 }
.slice ul { margin: .2rem 0; padding-left: 1.1rem }
@media (max-width: 40rem) {
  .slice { grid-template-columns: 1fr }
  .advice td, .advice td:first-child { display: block; width: auto; border: 0 }
}
"""


def write_audit(
    audit: Audit, advice: Sequence[Advice], waves: Sequence[np.ndarray], out: Path
) -> None:
    """Write the page.

    Args:
      audit: what was measured.
      advice: on it.
      waves: the worst slices in their order [samples], at the dataset's rate.
      out: the page's file.
    """
    sections = [
        render_section("Advice", _render_advice(advice)),
        render_section("In numbers", render_table(_facts(audit))),
        render_section("Length and loudness of the slices", _render_lengths(audit)),
        render_section("Pitch", _render_pitches(audit)),
        render_section("Noise", _render_noise(audit)),
        render_section("Bandwidth", _render_bandwidth(audit)),
        render_section("Repeated sound", _render_repeated(audit)),
        render_section(f"The {len(audit.worst)} worst slices", _render_worst(audit, waves)),
        render_section("Dropped in preparation", _render_dropped(audit)),
    ]
    dataset = html.escape(audit.dataset)
    lead = f"What rvc-jax {__version__} measured in <code>{dataset}</code>, and what to do."
    name = Path(audit.dataset).name or audit.dataset
    with atomic_write(out) as file:
        file.write(render_page(f"Audit of “{name}”", lead, sections, _STYLE))


def summarize(audit: Audit, advice: Sequence[Advice]) -> list[tuple[str, str]]:
    """Return the facts and the advice as rows of text, for a terminal."""
    rows = [(item.topic, f"{item.text} ({item.reason})") for item in advice]
    return [*_facts(audit), *rows]


def _render_advice(items: Sequence[Advice]) -> str:
    rows = []
    for item in items:
        cells = (
            html.escape(item.topic),
            f"<span class='{item.verdict}'>{item.verdict}</span>",
            f"{html.escape(item.text)}<div class='small'>{html.escape(item.reason)}</div>",
        )
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table class='advice'>{''.join(rows)}</table>"


def _facts(audit: Audit) -> list[tuple[str, str]]:
    count = max(audit.slices, 1)
    loudness = "too short to tell"
    if audit.loudness_spread.median is not None:
        loudness = f"{audit.loudness_spread.median:.1f} LUFS"
    noise = "no pause to measure it in"
    if audit.signal_to_noise_spread.median is not None:
        noise = f"{audit.signal_to_noise_spread.median:.0f} dB"
    bandwidth = f"{audit.bandwidth_hz / 1000:.1f} kHz of {audit.sample_rate / 2000:g} kHz"
    return [
        ("preset", f"{audit.preset} ({audit.sample_rate} Hz)"),
        (
            "speech",
            f"{audit.speech_minutes:.1f} of {audit.source_minutes:.1f} min "
            f"in {audit.files} files",
        ),
        (
            "slices",
            f"{audit.slices}, {audit.slice_minutes:.1f} min with overlaps; "
            f"{audit.train_slices} to train on",
        ),
        ("speech in the slices", f"{audit.speech_share:.0%} (voice activity detector)"),
        ("silence in the slices", f"{audit.silence_share:.0%}"),
        ("frames with a pitch", f"{audit.voiced_share:.0%}"),
        ("median loudness", loudness),
        ("median signal-to-noise ratio", noise),
        ("bandwidth", bandwidth),
        ("clipped slices", f"{audit.clipped_slices} ({audit.clipped_slices / count:.1%})"),
        ("noisy slices", f"{audit.noisy_slices} ({audit.noisy_slices / count:.1%})"),
        (
            "likely music or singing",
            f"{audit.music_slices} slices ({audit.music_slices / count:.1%})",
        ),
        ("repeated sound", f"{audit.repeated_seconds:.1f} s"),
        ("largest DC offset", f"{audit.dc_offset:.2%} of full scale"),
    ]


def _render_lengths(audit: Audit) -> str:
    lengths = _render_bars(
        audit.durations, "Slices by length", "length of the slices, seconds", 0.4, ".1f"
    )
    loudness = _render_bars(
        audit.loudness, "Slices by loudness", "loudness of the slices, LUFS", 2
    )
    caption = (
        "Slices as they are in the dataset, after normalization (loudness by ITU-R BS.1770). A "
        "narrow peak is best; quiet slices far from it are often not the voice."
    )
    return render_figure(lengths) + render_figure(loudness, caption)


def _render_pitches(audit: Audit) -> str:
    """Return the pitch of the speakers with the most speech."""
    voices = sorted(audit.voices, key=lambda voice: -voice.minutes)
    charts = "".join(map(_render_pitch, voices[:_MAX_SPEAKERS]))
    if len(voices) > _MAX_SPEAKERS:
        charts += f"<p class='small'>and {len(voices) - _MAX_SPEAKERS} more speakers</p>"
    return charts


def _render_pitch(voice: SpeakerAudit) -> str:
    low = voice.pitch_hz.low
    middle = voice.pitch_hz.median
    high = voice.pitch_hz.high
    if low is None or middle is None or high is None:
        return ""
    edges, counts = _trim(voice.pitch)
    notes = [round(edge + 0.5) for edge in edges[:-1]]
    step = _note_step(len(notes))
    ticks = []
    for note in notes:
        if note % step == 0:
            hz = _note_hz(note)
            ticks.append((note, f"{name_note(hz)} {hz:.0f} Hz"))
    chart = plot_histogram(
        edges,
        counts,
        ticks,
        f"Pitch of {voice.name}",
        "frames per semitone",
        (_hz_note(low) - 0.5, _hz_note(high) + 0.5),
    )
    caption = (
        f"{voice.name}, {voice.minutes:.1f} min: 90 % of the voiced frames are between "
        f"{name_note(low)} ({low:.0f} Hz) and {name_note(high)} ({high:.0f} Hz), half of them "
        f"below {name_note(middle)} ({middle:.0f} Hz). The voice is most reliable where the bars "
        "are tall."
    )
    return render_figure(chart, caption)


def _note_step(notes: int) -> int:
    """Return the semitones between the ticks of an axis with that many notes."""
    if notes > 36:
        return 12
    return 6 if notes > 20 else 3


def _render_noise(audit: Audit) -> str:
    if audit.signal_to_noise_spread.median is None:
        return "<p>No slice has a pause of 0.1 s to measure the noise in.</p>"
    chart = _render_bars(
        audit.signal_to_noise,
        "Slices by signal-to-noise ratio",
        "signal-to-noise ratio, dB",
        10,
    )
    count = sum(audit.signal_to_noise.counts)
    caption = (
        f"Estimated from the levels of speech and of pauses, in the {count} slices that have both. "
        "Below 20 dB noise is clearly audible; above 40 dB it no longer matters."
    )
    return render_figure(chart, caption)


def _render_bandwidth(audit: Audit) -> str:
    spectrum = audit.spectrum
    if spectrum is None:
        return "<p>No speech was found.</p>"
    top = 10 * np.ceil(max(spectrum.speech) / 10)
    y_ticks = [(float(level), f"{level:.0f}") for level in np.arange(top - 100, top + 1, 20)]
    x_ticks = [(hz, f"{hz // 1000}") for hz in range(0, audit.sample_rate // 2 + 1, 2000)]
    curves = [Curve("speech", spectrum.speech, BLUE)]
    if spectrum.pause:
        curves.append(Curve("pauses", spectrum.pause, ORANGE))
    chart = plot_spectra(
        spectrum.hz,
        curves,
        x_ticks,
        y_ticks,
        "Spectrum of speech and pauses",
        "kHz; dB",
        mark=(audit.bandwidth_hz, f"{audit.bandwidth_hz / 1000:.1f} kHz"),
    )
    caption = (
        "Long-term spectra of the whole dataset. At least a quarter of the speech reaches the "
        "dashed line; above it there is noise, or nothing at all."
    )
    return render_figure(chart, caption) + _render_narrow_files(audit)


def _render_narrow_files(audit: Audit) -> str:
    if not audit.narrow_files:
        return ""
    rows = [
        (
            item.file,
            f"{item.bandwidth_hz / 1000:.1f} kHz",
            f"{item.speech_seconds:.0f} s of speech",
        )
        for item in audit.narrow_files[:_MAX_ROWS]
    ]
    table = render_table(rows) + _render_more(audit.narrow_files)
    return f"<h3>Files with a much lower bandwidth than the rest</h3>{table}"


def _render_repeated(audit: Audit) -> str:
    if not audit.repeated:
        return ""
    text = (
        "<p>Files, or places in one file, that contain the same recording, regardless of its level "
        "or coding. What occurs twice counts twice in training.</p>"
    )
    rows = [
        (
            f"{item.first} at {item.first_at:.1f} s",
            f"{item.second} at {item.second_at:.1f} s",
            f"{item.seconds:.1f} s",
        )
        for item in audit.repeated[:_MAX_ROWS]
    ]
    return text + render_table(rows) + _render_more(audit.repeated)


def _render_worst(audit: Audit, waves: Sequence[np.ndarray]) -> str:
    if not audit.worst:
        return ""
    text = (
        "<p>Listen before you remove anything. The pictures show frequencies from 0 to "
        f"{audit.sample_rate / 2000:g} kHz upwards (mel scale), time to the right, and energy as "
        "brightness.</p>"
    )
    slices = [
        _render_slice(audit, item, wave) for item, wave in zip(audit.worst, waves, strict=True)
    ]
    return text + "".join(slices)


def _render_slice(audit: Audit, item: WorstSlice, wave: np.ndarray) -> str:
    rate = min(audit.sample_rate, _PLAYER_RATE)
    alternative = f"Log-mel spectrogram of {item.file} at {item.start:.1f} s"
    picture = render_image(_draw_thumbnail(wave, audit.preset), alternative)
    player = render_audio(resample(wave, audit.sample_rate, rate), rate)
    split = "held out" if item.split == "holdout" else item.split
    place = f"{item.seconds:.1f} s from {item.start:.1f} s on, {split}"
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in item.reasons)
    return (
        f"<div class='slice'>{picture}<div><strong>{html.escape(item.file)}</strong> "
        f"<span class='small'>{html.escape(place)}</span><ul>{reasons}</ul>{player}</div></div>"
    )


def _draw_thumbnail(wave: np.ndarray, preset: str) -> bytes:
    """Return the log-mel spectrogram as a PNG, one pixel per frame and filter."""
    from matplotlib.image import imsave

    settings = PRESETS[preset].audio
    frames = min(max(len(wave) // settings.hop, 1), WINDOW_FRAMES)
    # Padded to one length, so that the spectrogram is compiled once for all slices.
    padded = np.zeros((1, WINDOW_FRAMES * settings.hop), np.float32)
    padded[0, : min(len(wave), padded.shape[1])] = wave[: padded.shape[1]]
    mel = np.asarray(log_mel(spectrogram(jnp.asarray(padded), settings), settings))[0, :frames]
    buffer = io.BytesIO()
    imsave(buffer, draw_log_mel(mel), format="png")
    return buffer.getvalue()


def _render_dropped(audit: Audit) -> str:
    rows = [
        (reason, "once" if count == 1 else f"{count} times")
        for reason, count in audit.dropped.items()
    ]
    return render_table(rows[:_MAX_ROWS]) + _render_more(rows) if rows else ""


def _render_bars(
    histogram: Histogram, title: str, axis: str, tick_step: float, tick_format: str = ".0f"
) -> str:
    """Return a histogram without its empty ends."""
    edges, counts = _trim(histogram)
    ticks = [
        (edge, f"{edge:{tick_format}}")
        for edge in edges
        if abs(edge / tick_step - round(edge / tick_step)) < 1e-6
    ]
    return plot_histogram(edges, counts, ticks, title, axis)


def _trim(histogram: Histogram) -> tuple[Sequence[float], Sequence[int]]:
    """Return edges and counts with one negligible bin at either end, and no more."""
    threshold = _NEGLIGIBLE_SHARE * max(histogram.counts, default=0)
    filled = np.flatnonzero(np.array(histogram.counts) > threshold)
    if not len(filled):
        return histogram.edges, histogram.counts
    first = max(filled[0] - 1, 0)
    last = min(filled[-1] + 2, len(histogram.counts))
    return histogram.edges[first : last + 1], histogram.counts[first:last]


def _note_hz(note: int) -> float:
    """Return the frequency of a MIDI note."""
    return 440 * 2 ** ((note - 69) / 12)


def _hz_note(hz: float) -> float:
    """Return the MIDI note of a frequency, with its fraction."""
    return float(69 + 12 * np.log2(hz / 440))


def _render_more(items: Sequence) -> str:
    """Return how many items a list leaves out."""
    left_out = len(items) - _MAX_ROWS
    return f"<p class='small'>and {left_out} more</p>" if left_out > 0 else ""
