"""Metrics of one slice of a dataset, and what is wrong with it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.level import measure_level
from rvc_jax.audio.loudness import integrated_loudness
from rvc_jax.config import FEATURE_RATE
from rvc_jax.features import vad
from rvc_jax.metrics import signal
from rvc_jax.metrics.fingerprint import Fingerprint, fingerprint

# From these values on, a metric is a fault.
MUSIC_LINES = 1.2  # steady spectral lines; `metrics.signal.steady_lines` says how it was chosen
MUSIC_NOTES = 0.3  # share of the time
NOISY_DB = 20.0
CLIPPED_SHARE = 1e-3
LOW_SPEECH_SHARE = 0.2
HIGH_SILENCE_SHARE = 0.5
LOUDNESS_DEVIATION = 10.0  # LU from the dataset's median
DC_OFFSET = 0.01
REPEATED_SHARE = 0.5
NARROW_SHARE = 0.6
"""A file with less than this share of the whole dataset's bandwidth is narrow."""

_NARROW_SEVERITY = 1.3


class SliceMetrics(NamedTuple):
    """Metrics of a slice; shares are 0..1."""

    split: str
    file: str
    speaker: int
    start: float
    """Seconds into the file."""
    seconds: float
    speech: float
    """Share of the time with voice activity."""
    silence: float
    """Share of the time."""
    loudness: float | None
    """LUFS, as in the dataset; None for less than 0.4 s or nothing but silence."""
    signal_to_noise: float | None
    """dB; None without a pause to measure the noise in."""
    flat_tops: float
    """Share of samples that clipping has cut off; about half of them are found."""
    dc_offset: float
    """Mean of the samples; full scale is 1."""
    lines: float | None
    """Steady spectral lines; None for less than 1.2 s."""
    notes: float
    """Share of the time in which the pitch holds a note."""

    @property
    def is_music(self) -> bool:
        """Whether the slice is likely music or singing."""
        return (self.lines or 0.0) >= MUSIC_LINES or self.notes >= MUSIC_NOTES


class SliceSignature(NamedTuple):
    """What is kept of a slice's sound until the whole dataset has been read."""

    fingerprint: Fingerprint
    spectra: np.ndarray
    """[2, bins]: summed power spectra of speech and pauses (`metrics.signal.sum_spectra`)."""
    spectra_frames: np.ndarray
    """int [2]: how many frames are summed."""


def measure_slice(
    split: str, record: dict[str, Any], rate: int, high_pass_hz: float
) -> tuple[SliceMetrics, SliceSignature]:
    """Measure one record of a dataset.

    Args:
        split: The record's split.
        record: The record, with its samples as float32.
        rate: Samples per second.
        high_pass_hz: Corner of the high-pass filter that the sources went through.
    """
    original = np.asarray(record["wave"], np.float32)
    # Detectors take a slice of a quiet recording for silence.
    raising = measure_level(original, rate).raising_gain
    wave = original * np.float32(raising)
    audio16k = resample(wave, rate, FEATURE_RATE)
    frames = signal.split_frames(wave, rate)
    probability = vad.speech_probability_in_slice(audio16k)[: len(frames)]
    frames = frames[: len(probability)]
    speech = 0.0
    if len(probability):
        speech = float((probability >= signal.SPEECH_PROBABILITY).mean())
    loudness = integrated_loudness([wave], rate) - 20 * math.log10(raising)
    metrics = SliceMetrics(
        split=split,
        file=record["source"],
        speaker=int(record["speaker"]),
        start=float(record["start"]),
        seconds=len(wave) / rate,
        speech=speech,
        silence=signal.silent_share(frames),
        loudness=loudness if math.isfinite(loudness) else None,
        signal_to_noise=signal.signal_to_noise(frames, probability),
        flat_tops=signal.flat_top_share(wave, rate, high_pass_hz),
        dc_offset=abs(float(original.mean(dtype=np.float64))) if len(wave) else 0.0,
        lines=signal.steady_lines(audio16k),
        notes=signal.held_notes(np.asarray(record["f0"])),
    )
    spectra, spectra_frames = signal.sum_spectra(frames, probability)
    return metrics, SliceSignature(fingerprint(audio16k), spectra, spectra_frames)


def rank_faults(
    item: SliceMetrics,
    loudness: float,
    narrow_hz: float | None,
    repeated: tuple[float, str] | None,
) -> list[tuple[float, str]]:
    """Return (severity, text) for everything that is, or comes near to being, wrong with a slice.

    Faults have a severity of 1 and more; below 1 it is the share of the limit.

    Args:
        item: The slice's metrics.
        loudness: The dataset's median, in LUFS.
        narrow_hz: Bandwidth of the slice's file if that is narrow, else None.
        repeated: Share of the slice that is elsewhere, too, and where; or None.
    """
    ratios = [
        (
            # The tenth keeps the ratio finite for a slice without speech.
            LOW_SPEECH_SHARE / (item.speech + LOW_SPEECH_SHARE / 10),
            f"{item.speech:.0%} of it is speech",
        ),
        (
            item.silence / HIGH_SILENCE_SHARE,
            f"{item.silence:.0%} of it is silence",
        ),
        (
            item.flat_tops / CLIPPED_SHARE,
            f"clipped: {item.flat_tops:.2%} of the samples are on flat tops",
        ),
        (
            item.dc_offset / DC_OFFSET,
            f"a constant offset of {item.dc_offset:.1%} of full scale",
        ),
        (
            item.notes / MUSIC_NOTES,
            f"likely singing: the pitch holds notes for {item.notes:.0%} of the time",
        ),
    ]
    if item.lines is not None:
        text = f"likely music or singing: {item.lines:.1f} steady spectral lines at a time"
        ratios.append((item.lines / MUSIC_LINES, text))
    if item.signal_to_noise is not None:
        text = f"noise: the signal-to-noise ratio is {item.signal_to_noise:.0f} dB"
        ratios.append((10 ** ((NOISY_DB - item.signal_to_noise) / 20), text))
    if item.loudness is not None:
        deviation = item.loudness - loudness
        direction = "louder" if deviation > 0 else "quieter"
        text = f"{abs(deviation):.0f} LU {direction} than the median"
        ratios.append((abs(deviation) / LOUDNESS_DEVIATION, text))
    if repeated is not None:
        share, where = repeated
        ratios.append((share / REPEATED_SHARE, f"{share:.0%} of it is also in {where}"))
    if narrow_hz is not None:
        text = f"nothing above {narrow_hz / 1000:.1f} kHz in this file"
        ratios.append((_NARROW_SEVERITY, text))
    # Logarithmic above 1, so that a hundredfold excess does not hide all other faults.
    return [(ratio if ratio < 1 else 1 + math.log10(ratio), text) for ratio, text in ratios]
