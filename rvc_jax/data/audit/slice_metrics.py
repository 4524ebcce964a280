"""One slice of a dataset under the microscope, and what is wrong with it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.loudness import integrated_loudness
from rvc_jax.config import FEATURE_RATE
from rvc_jax.features import vad
from rvc_jax.metrics import signal as quality
from rvc_jax.metrics.fingerprint import Fingerprint, fingerprint

MUSIC_LINES = 1.2
"""From so many steady spectral lines a slice is likely music; `audio.quality.steady_lines` tells
what that rests on."""
MUSIC_NOTES = 0.3
NOISY_DB = 20.0
CLIPPED_SHARE = 1e-3
LITTLE_SPEECH = 0.2
MUCH_SILENCE = 0.5
LOUDNESS_APART = 10.0
DC_OFFSET = 0.01
REPEATED_SHARE = 0.5
NARROW_SHARE = 0.6
"""A file with less than this share of the whole dataset's bandwidth is called narrow."""

_NARROW_SEVERITY = 1.3


class SliceMetrics(NamedTuple):
    """Measures of a slice; shares are 0..1."""

    split: str
    file: str
    speaker: int
    start: float
    """Seconds into the file."""
    seconds: float
    speech: float
    """Share of the time in which the detector of voice activity hears speech."""
    silence: float
    loudness: float | None
    """LUFS, as it is in the dataset; None for less than 0.4 s or nothing but silence."""
    signal_to_noise: float | None
    """dB; None without a pause to hear the noise in."""
    flat_tops: float
    """Share of samples that clipping has cut off, about half of them found."""
    dc_offset: float
    """Mean of the samples; 1 is full scale."""
    lines: float | None
    """Steady spectral lines; None for less than 1.2 s."""
    notes: float
    """Share of the time in which the pitch holds a note."""

    @property
    def is_music(self) -> bool:
        """Likely music or singing."""
        return (self.lines or 0.0) >= MUSIC_LINES or self.notes >= MUSIC_NOTES


class SliceSignature(NamedTuple):
    """What is kept of a slice until the whole dataset is known."""

    fingerprint: Fingerprint
    spectra: np.ndarray
    """[2, bins]: see `audio.quality.spectra`."""
    spectra_frames: np.ndarray


def measure_slice(
    split: str, record: dict[str, Any], rate: int, high_pass_hz: float
) -> tuple[SliceMetrics, SliceSignature]:
    """Measure one record of a dataset of that rate, whose sources went through that high-pass
    filter."""
    wave = np.asarray(record["wave"], np.float32)
    audio16k = resample(wave, rate, FEATURE_RATE)
    frames = quality.split_frames(wave, rate)
    probability = vad.speech_probability_in_slice(audio16k)[: len(frames)]
    frames = frames[: len(probability)]
    loudness = integrated_loudness([wave], rate)
    measured = SliceMetrics(
        split=split,
        file=record["source"],
        speaker=int(record["speaker"]),
        start=float(record["start"]),
        seconds=len(wave) / rate,
        speech=float((probability >= quality.SPEECH_PROBABILITY).mean())
        if len(probability)
        else 0.0,
        silence=quality.silent_share(frames),
        loudness=loudness if math.isfinite(loudness) else None,
        signal_to_noise=quality.signal_to_noise(frames, probability),
        flat_tops=quality.flat_top_share(wave, rate, high_pass_hz),
        dc_offset=abs(float(wave.mean(dtype=np.float64))) if len(wave) else 0.0,
        lines=quality.steady_lines(audio16k),
        notes=quality.held_notes(np.asarray(record["f0"])),
    )
    return measured, SliceSignature(
        fingerprint(audio16k), *quality.sum_spectra(frames, probability)
    )


def rank_faults(
    item: SliceMetrics,
    loudness: float,
    narrow_hz: float | None,
    repeated: tuple[float, str] | None,
):
    """What is or comes near to being wrong with a slice: pairs of a severity and a text, from 1 on
    a fault.

    Args:
      loudness: the dataset's median, in LUFS.
      narrow_hz: the highest frequency of the slice's file, if it is one of those with less than the
          rest.
      repeated: which share of the slice is there elsewhere, and where.
    """
    found = [
        (
            LITTLE_SPEECH / (item.speech + LITTLE_SPEECH / 10),
            f"{item.speech:.0%} of it is speech",
        ),
        (item.silence / MUCH_SILENCE, f"{item.silence:.0%} of it is silence"),
        (
            item.flat_tops / CLIPPED_SHARE,
            f"clipped: {item.flat_tops:.2%} of the samples lie on flat tops",
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
        text = f"likely music or singing: {item.lines:.1f} spectral lines stand still at a time"
        found.append((item.lines / MUSIC_LINES, text))
    if item.signal_to_noise is not None:
        text = f"noise: the signal-to-noise ratio is {item.signal_to_noise:.0f} dB"
        found.append((10 ** ((NOISY_DB - item.signal_to_noise) / 20), text))
    if item.loudness is not None:
        apart = item.loudness - loudness
        text = f"{abs(apart):.0f} LU {'louder' if apart > 0 else 'quieter'} than the median"
        found.append((abs(apart) / LOUDNESS_APART, text))
    if repeated is not None:
        share, where = repeated
        found.append((share / REPEATED_SHARE, f"{share:.0%} of it is also in {where}"))
    if narrow_hz is not None:
        found.append(
            (_NARROW_SEVERITY, f"nothing above {narrow_hz / 1000:.1f} kHz in this file")
        )
    return [(ratio if ratio < 1 else 1 + math.log10(ratio), text) for ratio, text in found]
