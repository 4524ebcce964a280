"""Pitch and delay of conversions that were made with a known difference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.metrics.melody import PitchTracks, track_pitch
from rvc_jax.metrics.pitch import align, estimate_delay, pitch_figures


@pytest.fixture(scope="module")
def speech(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[16000:44000]


def melody(cents: np.ndarray | float, voiced: slice = slice(None)) -> PitchTracks:
    """A gliding pitch, and one that differs from it by so many cents, where it is voiced."""
    source = np.geomspace(100, 200, 100)
    converted = np.zeros(100)
    converted[voiced] = (source * 2 ** (np.broadcast_to(cents, 100) / 1200))[voiced]
    return PitchTracks(source.astype(np.float32), converted.astype(np.float32))


def test_a_transposition_is_told_and_no_error() -> None:
    figures = pitch_figures(melody(-300))
    assert figures["transposition_semitones"] == pytest.approx(-3, abs=1e-4)
    assert figures["f0_rmse_cents"] == pytest.approx(0, abs=0.01)
    assert figures["f0_correlation"] == pytest.approx(1)
    assert figures["voicing_error"] == figures["gross_pitch_errors"] == 0


def test_a_known_deviation_is_the_error() -> None:
    wave = 50 * math.sqrt(2) * np.sin(2 * np.pi * np.arange(100) / 20)
    figures = pitch_figures(melody(1200 + wave))
    assert figures["f0_rmse_cents"] == pytest.approx(50, rel=1e-3)
    assert figures["transposition_semitones"] == pytest.approx(12, abs=0.1)
    octaves = np.where(np.arange(100) < 10, 1200.0, 0.0)  # a tenth an octave up
    figures = pitch_figures(melody(octaves))
    assert figures["gross_pitch_errors"] == 0.1
    assert figures["f0_rmse_cents"] == pytest.approx(1200 * math.sqrt(0.1), rel=1e-3)


def test_voicing_errors_are_a_share_of_all_frames_and_little_voice_has_no_pitch() -> None:
    assert pitch_figures(melody(0, slice(25, 100)))["voicing_error"] == 0.25
    assert pitch_figures(melody(0, slice(0, 9))) == {"voicing_error": 0.91}
    silent = PitchTracks(np.zeros(10, np.float32), np.zeros(10, np.float32))
    assert pitch_figures(silent) == {"voicing_error": 0}


def test_real_speech_that_is_played_faster_is_transposed_by_that(speech: np.ndarray) -> None:
    faster = resample(speech, 16000, 12800)  # at 16 kHz it takes 0.8 of the time
    heard = track_pitch(speech, 16000, np.pad(faster, (0, len(speech) - len(faster))), 16000)
    frames = np.arange(len(faster) // 160)
    figures = pitch_figures(
        PitchTracks(heard.source[np.rint(1.25 * frames).astype(int)], heard.converted[frames])
    )
    assert figures["transposition_semitones"] == pytest.approx(12 * math.log2(1.25), abs=0.05)
    assert (
        figures["f0_rmse_cents"] < 60
        and figures["f0_correlation"] > 0.95
        and figures["voicing_error"] < 0.15
    )


def test_a_synthetic_voice_that_is_shifted_has_no_pitch_error() -> None:
    glide = 110 * 1.6 ** (
        np.arange(16000) / 16000 + 0.05 * np.sin(2 * np.pi * 4 * np.arange(16000) / 16000)
    )
    voices = [
        sum(np.sin(n * 2 * np.pi * np.cumsum(glide * factor) / 16000) / n for n in range(1, 12))
        / 10
        for factor in (1, 2 ** (5 / 12))
    ]
    figures = pitch_figures(track_pitch(voices[0], 16000, voices[1], 16000))
    assert figures["transposition_semitones"] == pytest.approx(5, abs=0.05)
    assert figures["f0_rmse_cents"] < 15 and figures["f0_correlation"] > 0.99


@pytest.mark.parametrize("frames", [-23, 0, 13, 40])
def test_a_delay_is_found_and_taken_out(speech: np.ndarray, frames: int) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(speech) + 8000).astype(
        np.float32
    )
    late = noise.copy()
    heard = 0.5 * speech[max(-frames, 0) * 160 :]
    late[max(frames, 0) * 160 :][: len(heard)] += heard
    assert estimate_delay(speech, late) == pytest.approx(frames, abs=1)
    first, second = align(speech, late, frames)
    assert len(first) == len(second) >= len(speech) - 40 * 160
    assert np.corrcoef(first, second)[0, 1] > 0.95


def test_where_nothing_is_alike_there_is_no_delay(speech: np.ndarray) -> None:
    assert estimate_delay(speech, np.zeros(16000, np.float32)) == 0
    assert estimate_delay(speech[:1600], speech[:1600]) == 0
    assert estimate_delay(speech, np.sin(np.arange(16000, dtype=np.float32))) == 0
    assert estimate_delay(speech, speech[::-1]) == 0
