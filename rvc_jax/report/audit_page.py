"""The page of `rvc-jax audit`: a dataset's quality at a glance, to be read without any other
file."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import PRESETS, WINDOW_FRAMES
from rvc_jax.data.audit.advice import Advice, advise, name_note
from rvc_jax.data.audit.audit import Audit, Histogram, SpeakerAudit, WorstSlice
from rvc_jax.report.html import audio, figure, image, page, section, table
from rvc_jax.report.svg import Curve, curves, histogram
from rvc_jax.storage.files import atomic_write
from rvc_jax.version import __version__

_PLAYED_RATE = 24000
_ROWS = 20
_VOICES = 6
_NEXT_TO_NOTHING = 0.005  # of the tallest bar
_MEL_RANGE = (-11.5, 1.0)
_BLUE = "#1f6feb"
_ORANGE = "#d9730d"
_STYLE = """
.good, .notice, .problem { border-radius: 4px; padding: .05rem .45rem; font-size: .85rem; white-space: nowrap }
.good { background: #e3f5e8; color: #1b6e36 } .notice { background: #fdf3d8; color: #7a5600 }
.problem { background: #fde3e1; color: #9b1c14 }
.advice td:first-child { width: 9rem } .advice td:nth-child(2) { width: 5rem }
td:nth-child(3) { white-space: nowrap } .advice td { white-space: normal }
.slice { display: grid; grid-template-columns: 17rem 1fr; gap: .2rem 1.2rem; margin-top: 1.2rem }
.slice img { height: 8.6rem } .slice figure { margin: 0 } .slice ul { margin: .2rem 0; padding-left: 1.1rem }
@media (max-width: 40rem) {
  .slice { grid-template-columns: 1fr } .advice td, .advice td:first-child { display: block; width: auto; border: 0 }
}
"""


def write_audit(audit: Audit, waves: Sequence[np.ndarray], out: Path) -> None:
    """Writes the page.

    waves: the sound of the worst slices, in their order, at the dataset's rate.
    """
    sections = [
        section("Advice", _advice(advise(audit))),
        section("In numbers", table(_facts(audit))),
        section("Length and loudness of the slices", _lengths(audit)),
        section("Pitch", _pitches(audit)),
        section("Noise", _noise(audit)),
        section("Bandwidth", _bandwidth(audit)),
        section("The same sound twice", _repeated(audit)),
        section(_worst_title(audit), _worst(audit, waves)),
        section("Dropped in preparation", _dropped(audit)),
    ]
    lead = f"What rvc-jax {__version__} heard in <code>{html.escape(audit.dataset)}</code>, and what to make of it."
    name = Path(audit.dataset).name or audit.dataset
    with atomic_write(out) as file:
        file.write(page(f"Audit of “{name}”", lead, sections, _STYLE))


def summarize(audit: Audit) -> list[tuple[str, str]]:
    """The figures and the advice as rows of text, for a terminal."""
    return [
        *_facts(audit),
        *((item.topic, f"{item.text} ({item.reason})") for item in advise(audit)),
    ]


def _advice(items: Sequence[Advice]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(item.topic)}</td><td><span class='{item.verdict}'>{item.verdict}</span></td>"
        f"<td>{html.escape(item.text)}<div class='small'>{html.escape(item.reason)}</div></td></tr>"
        for item in items
    )
    return f"<table class='advice'>{rows}</table>"


def _facts(audit: Audit) -> list[tuple[str, str]]:
    count = max(audit.slices, 1)
    noise = audit.signal_to_noise_spread
    loudness = audit.loudness_spread
    heard = (
        f"{audit.signal_to_noise_spread.median:.0f} dB"
        if noise.median is not None
        else "no pause to measure it in"
    )
    rows = [
        ("preset", f"{audit.preset} ({audit.sample_rate} Hz)"),
        (
            "speech",
            f"{audit.speech_minutes:.1f} of {audit.source_minutes:.1f} min in {audit.files} files",
        ),
        (
            "slices",
            f"{audit.slices}, {audit.slice_minutes:.1f} min with overlaps; {audit.train_slices} to train on",
        ),
        ("of their time is speech", f"{audit.speech_share:.0%} (detector of voice activity)"),
        ("of their time is silence", f"{audit.silence_share:.0%}"),
        ("frames with a pitch", f"{audit.voiced_share:.0%}"),
        (
            "median loudness",
            "too short to tell" if loudness.median is None else f"{loudness.median:.1f} LUFS",
        ),
        ("median signal-to-noise ratio", heard),
        (
            "bandwidth",
            f"{audit.bandwidth_hz / 1000:.1f} kHz of {audit.sample_rate / 2000:g} kHz",
        ),
        ("clipped slices", f"{audit.clipped_slices} ({audit.clipped_slices / count:.1%})"),
        ("noisy slices", f"{audit.noisy_slices} ({audit.noisy_slices / count:.1%})"),
        (
            "likely music or singing",
            f"{audit.music_slices} slices ({audit.music_slices / count:.1%})",
        ),
        ("the same sound twice", f"{audit.repeated_seconds:.1f} s"),
        ("largest constant offset", f"{audit.dc_offset:.2%} of full scale"),
    ]
    return rows


def _lengths(audit: Audit) -> str:
    lengths = _bars(
        audit.durations, "Slices by length", "length of the slices, seconds", 0.4, ".1f"
    )
    loudness = _bars(audit.loudness, "Slices by loudness", "loudness of the slices, LUFS", 2)
    caption = (
        "As the slices are in the dataset, after normalisation (ITU-R BS.1770). A narrow hill is best; quiet slices "
        "far from it are often not the voice."
    )
    return figure(lengths) + figure(loudness, caption)


def _pitches(audit: Audit) -> str:
    """Of the speakers with the most speech."""
    voices = sorted(audit.voices, key=lambda voice: -voice.minutes)
    left = (
        f"<p class='small'>and {len(voices) - _VOICES} more speakers</p>"
        if len(voices) > _VOICES
        else ""
    )
    return "".join(map(_pitch, voices[:_VOICES])) + left


def _pitch(voice: SpeakerAudit) -> str:
    low = voice.pitch_hz.low
    middle = voice.pitch_hz.median
    high = voice.pitch_hz.high
    if low is None:
        return ""
    edges, counts = _trimmed(voice.pitch)
    notes = [round(edge + 0.5) for edge in edges[:-1]]
    step = 12 if len(notes) > 36 else 6 if len(notes) > 20 else 3
    ticks = [
        (note, f"{name_note(hz)} {hz:.0f} Hz")
        for note in notes
        if note % step == 0
        for hz in [_hz(note)]
    ]
    span = tuple(69 + 12 * np.log2(hz / 440) for hz in (low, high))
    chart = histogram(
        edges,
        counts,
        ticks,
        f"Pitch of {voice.name}",
        "frames per semitone",
        (span[0] - 0.5, span[1] + 0.5),
    )
    caption = (
        f"{voice.name}, {voice.minutes:.1f} min: 90 % of the voiced frames lie between {name_note(low)} ({low:.0f} Hz) "
        f"and {name_note(high)} ({high:.0f} Hz), half of them below {name_note(middle)} ({middle:.0f} Hz). The voice "
        "is surest where the bars are tall."
    )
    return figure(chart, caption)


def _noise(audit: Audit) -> str:
    if audit.signal_to_noise_spread.median is None:
        return "<p>No slice has a pause of 0.1 s to hear the noise in.</p>"
    chart = _bars(
        audit.signal_to_noise,
        "Slices by signal-to-noise ratio",
        "signal-to-noise ratio, dB",
        10,
    )
    count = sum(audit.signal_to_noise.counts)
    caption = (
        f"Estimated from the levels of speech and of the pauses, in the {count} slices that have both. "
        "Below 20 dB noise is plain to hear; above 40 dB it no longer matters."
    )
    return figure(chart, caption)


def _bandwidth(audit: Audit) -> str:
    spectrum = audit.spectrum
    reach = audit.bandwidth_hz
    if spectrum is None:
        return "<p>No speech was heard.</p>"
    top = 10 * np.ceil(max(spectrum.speech) / 10)
    y_ticks = [(float(level), f"{level:.0f}") for level in np.arange(top - 100, top + 1, 20)]
    x_ticks = [(hz, f"{hz // 1000}") for hz in range(0, audit.sample_rate // 2 + 1, 2000)]
    lines = [Curve("speech", spectrum.speech, _BLUE)]
    if spectrum.pause:
        lines.append(Curve("pauses", spectrum.pause, _ORANGE))
    mark = (reach, f"{reach / 1000:.1f} kHz")
    chart = curves(
        spectrum.hz, lines, x_ticks, y_ticks, "Spectrum of speech and pauses", "kHz; dB", mark
    )
    caption = (
        "Long-term spectra of everything together. At least a quarter of the speech reaches the dashed line; above it "
        "there is noise, or nothing at all."
    )
    rows = [
        (
            item.file,
            f"{item.bandwidth_hz / 1000:.1f} kHz",
            f"{item.speech_seconds:.0f} s of speech",
        )
        for item in audit.narrow_files[:_ROWS]
    ]
    listed = (
        f"<h3>Files that end well below the rest</h3>{table(rows)}{_more(audit.narrow_files)}"
        if rows
        else ""
    )
    return figure(chart, caption) + listed


def _repeated(audit: Audit) -> str:
    if not audit.repeated:
        return ""
    text = (
        "<p>Files, or places of one file, with the same recording in them, whatever its level or coding. "
        "What is there twice weighs twice.</p>"
    )
    rows = [
        (
            f"{item.first} at {item.first_at:.1f} s",
            f"{item.second} at {item.second_at:.1f} s",
            f"{item.seconds:.1f} s",
        )
        for item in audit.repeated[:_ROWS]
    ]
    return text + table(rows) + _more(audit.repeated)


def _worst_title(audit: Audit) -> str:
    return f"The {len(audit.worst)} worst slices"


def _worst(audit: Audit, waves: Sequence[np.ndarray]) -> str:
    if not audit.worst:
        return ""
    text = (
        "<p>Listen before you throw anything away. The pictures show 0 to "
        f"{audit.sample_rate / 2000:g} kHz upwards (mel scale), time to the right, energy bright.</p>"
    )
    return text + "".join(
        _slice(audit, item, wave) for item, wave in zip(audit.worst, waves, strict=True)
    )


def _slice(audit: Audit, item: WorstSlice, wave: np.ndarray) -> str:
    rate = min(audit.sample_rate, _PLAYED_RATE)
    picture = image(
        _thumbnail(wave, audit.preset),
        f"Log-mel spectrogram of {item.file} at {item.start:.1f} s",
    )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in item.reasons)
    place = f"{item.seconds:.1f} s from {item.start:.1f} s on, {'held out' if item.split == 'holdout' else item.split}"
    return (
        f"<div class='slice'>{picture}<div><strong>{html.escape(item.file)}</strong> "
        f"<span class='small'>{html.escape(place)}</span><ul>{reasons}</ul>"
        f"{audio(resample(wave, audit.sample_rate, rate), rate)}</div></div>"
    )


def _dropped(audit: Audit) -> str:
    rows = [
        (reason, "once" if count == 1 else f"{count} times")
        for reason, count in audit.dropped.items()
    ]
    return table(rows[:_ROWS]) + _more(rows) if rows else ""


def _thumbnail(wave: np.ndarray, preset: str) -> bytes:
    """Log-mel as a PNG, a pixel for every frame and band; of every length the same shape, which is
    compiled once."""
    from matplotlib.image import imsave

    settings = PRESETS[preset].audio
    frames = min(max(len(wave) // settings.hop, 1), WINDOW_FRAMES)
    padded = np.zeros((1, WINDOW_FRAMES * settings.hop), np.float32)
    padded[0, : min(len(wave), padded.shape[1])] = wave[: padded.shape[1]]
    mel = np.asarray(log_mel(spectrogram(padded, settings), settings))[0, :frames].T
    buffer = io.BytesIO()
    imsave(
        buffer,
        mel,
        origin="lower",
        cmap="magma",
        vmin=_MEL_RANGE[0],
        vmax=_MEL_RANGE[1],
        format="png",
    )
    return buffer.getvalue()


def _bars(shown: Histogram, title: str, axis: str, step: float, style: str = ".0f") -> str:
    """A histogram without its empty ends, and a tick every `step`."""
    edges, counts = _trimmed(shown)
    ticks = [
        (edge, f"{edge:{style}}")
        for edge in edges
        if abs(edge / step - round(edge / step)) < 1e-6
    ]
    return histogram(edges, counts, ticks, title, axis)


def _trimmed(shown: Histogram) -> tuple[Sequence[float], Sequence[int]]:
    """Edges and counts without the ends in which there is next to nothing, but for one bin."""
    filled = np.flatnonzero(
        np.array(shown.counts) > _NEXT_TO_NOTHING * max(shown.counts, default=0)
    )
    if not len(filled):
        return shown.edges, shown.counts
    first = max(filled[0] - 1, 0)
    last = min(filled[-1] + 2, len(shown.counts))
    return shown.edges[first : last + 1], shown.counts[first:last]


def _hz(note: int) -> float:
    return 440 * 2 ** ((note - 69) / 12)


def _more(items: Sequence) -> str:
    return f"<p class='small'>and {len(items) - _ROWS} more</p>" if len(items) > _ROWS else ""
