"""Pitch and delay of conversions that were made with a known difference."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.metrics.pitch import (
    MIN_VOICED_FRAMES,
    PitchTracks,
    align,
    compare_tracks,
    estimate_delay,
    pitch_errors,
    track_pitch,
)


@pytest.fixture(scope="module")
def speech(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[16000:56000]


def tracks(cents: np.ndarray | float, voiced: slice = slice(None)) -> PitchTracks:
    """A gliding pitch, and one that differs from it by a number of cents, where it is voiced."""
    source = np.geomspace(100, 200, 100)
    converted = np.zeros(100)
    converted[voiced] = (source * 2 ** (np.broadcast_to(cents, 100) / 1200))[voiced]
    return PitchTracks(source.astype(np.float32), converted.astype(np.float32))


def errors_frame_by_frame(
    rendered: list[float], target: list[float], valid: list[bool], ignore_transposition: bool
) -> dict[str, float]:
    """The definition in words, in plain Python."""
    frames = [
        (ours, theirs)
        for ours, theirs, counts in zip(rendered, target, valid, strict=True)
        if counts
    ]
    wrong = sum(1 for ours, theirs in frames if (ours > 0) != (theirs > 0))
    errors = {"voicing_error": wrong / len(frames)}
    cents = [1200 * math.log2(ours / theirs) for ours, theirs in frames if ours and theirs]
    if len(cents) < 10:
        return errors
    if ignore_transposition:
        middle = statistics.median(cents)
        cents = [value - middle for value in cents]
    close = [value for value in cents if 1 / 1.2 <= 2 ** (value / 1200) <= 1.2]
    errors["f0_median_cents"] = statistics.median(abs(value) for value in cents)
    errors["gross_pitch_errors"] = 1 - len(close) / len(cents)
    if close:
        errors["f0_rmse_cents"] = math.sqrt(statistics.fmean(value**2 for value in close))
    return errors


hertz = st.one_of(st.just(0.0), st.floats(50, 1100))


@settings(deadline=None)
@given(st.lists(st.tuples(hertz, hertz, st.booleans()), min_size=1, max_size=60), st.booleans())
def test_errors_are_those_of_the_definition(frames, ignore_transposition) -> None:
    rendered, target, valid = (list(column) for column in zip(*frames, strict=True))
    valid[0] = True
    ours = pitch_errors(
        np.array(rendered), np.array(target), np.array(valid), ignore_transposition
    )
    expected = errors_frame_by_frame(rendered, target, valid, ignore_transposition)
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_a_few_wrong_octaves_are_gross_errors_and_nothing_else() -> None:
    """As in a run on seven speakers: 97 % of the frames within a semitone, 1138 cents RMS."""
    target = np.full((4, 100), 100.0)
    rendered = target * 2 ** (20 / 1200)
    rendered[0, :12] *= 64
    errors = pitch_errors(rendered, target)
    assert errors["gross_pitch_errors"] == pytest.approx(0.03)
    assert errors["f0_median_cents"] == pytest.approx(20)
    assert errors["f0_rmse_cents"] == pytest.approx(20)
    nothing_else = pitch_errors(64 * target, target)
    assert nothing_else["gross_pitch_errors"] == 1 and "f0_rmse_cents" not in nothing_else


def test_frames_that_are_not_valid_do_not_count() -> None:
    target = np.full((2, MIN_VOICED_FRAMES), 100.0)
    rendered = np.stack([target[0], np.zeros(MIN_VOICED_FRAMES)])
    valid = np.array([[True] * MIN_VOICED_FRAMES, [False] * MIN_VOICED_FRAMES])
    assert pitch_errors(rendered, target, valid) == {
        "voicing_error": 0,
        "f0_median_cents": 0,
        "gross_pitch_errors": 0,
        "f0_rmse_cents": 0,
    }
    valid[0, 0] = False
    assert pitch_errors(rendered, target, valid) == {"voicing_error": 0}
    assert pitch_errors(rendered, target) == pytest.approx(
        {
            "voicing_error": 0.5,
            "f0_median_cents": 0,
            "gross_pitch_errors": 0,
            "f0_rmse_cents": 0,
        }
    )


def test_a_transposition_is_reported_and_no_error() -> None:
    metrics = compare_tracks(tracks(-300))
    assert metrics["transposition_semitones"] == pytest.approx(-3, abs=1e-4)
    assert metrics["f0_rmse_cents"] == pytest.approx(0, abs=0.01)
    assert metrics["f0_median_cents"] == pytest.approx(0, abs=0.01)
    assert metrics["f0_correlation"] == pytest.approx(1)
    assert metrics["voicing_error"] == metrics["gross_pitch_errors"] == 0


def test_a_known_deviation_is_the_error() -> None:
    wave = 50 * math.sqrt(2) * np.sin(2 * np.pi * np.arange(100) / 20)
    metrics = compare_tracks(tracks(1200 + wave))
    assert metrics["f0_rmse_cents"] == pytest.approx(50, rel=1e-3)
    assert metrics["f0_median_cents"] == pytest.approx(np.median(np.abs(wave)), rel=1e-3)
    assert metrics["transposition_semitones"] == pytest.approx(12, abs=0.1)
    octaves = np.where(np.arange(100) < 10, 1200.0, 0.0)  # a tenth is an octave up
    metrics = compare_tracks(tracks(octaves))
    assert metrics["gross_pitch_errors"] == 0.1
    assert metrics["f0_rmse_cents"] == pytest.approx(0, abs=0.01)
    assert metrics["f0_median_cents"] == pytest.approx(0, abs=0.01)


def test_voicing_errors_are_a_share_of_all_frames_and_little_voice_has_no_pitch() -> None:
    assert compare_tracks(tracks(0, slice(25, 100)))["voicing_error"] == 0.25
    assert compare_tracks(tracks(0, slice(0, 9))) == {"voicing_error": 0.91}
    silent = PitchTracks(np.zeros(10, np.float32), np.zeros(10, np.float32))
    assert compare_tracks(silent) == {"voicing_error": 0}


def test_real_speech_that_is_played_faster_is_transposed_by_that(speech: np.ndarray) -> None:
    speech = speech[:28000]
    faster = resample(speech, 16000, 12800)  # at 16 kHz it takes 0.8 of the time
    padded = np.pad(faster, (0, len(speech) - len(faster)))
    found = track_pitch(speech, 16000, padded, 16000)
    frames = np.arange(len(faster) // 160)
    source = found.source[np.rint(1.25 * frames).astype(int)]
    metrics = compare_tracks(PitchTracks(source, found.converted[frames]))
    assert metrics["transposition_semitones"] == pytest.approx(12 * math.log2(1.25), abs=0.05)
    assert metrics["f0_rmse_cents"] < 60 and metrics["f0_median_cents"] < 30
    assert metrics["gross_pitch_errors"] == 0
    assert metrics["f0_correlation"] > 0.95 and metrics["voicing_error"] < 0.15


def test_a_synthetic_voice_that_is_shifted_has_no_pitch_error() -> None:
    time = np.arange(16000) / 16000
    glide = 110 * 1.6 ** (time + 0.05 * np.sin(2 * np.pi * 4 * time))
    voices = [
        sum(np.sin(n * 2 * np.pi * np.cumsum(glide * factor) / 16000) / n for n in range(1, 12))
        / 10
        for factor in (1, 2 ** (5 / 12))
    ]
    metrics = compare_tracks(track_pitch(voices[0], 16000, voices[1], 16000))
    assert metrics["transposition_semitones"] == pytest.approx(5, abs=0.05)
    assert metrics["f0_rmse_cents"] < 15 and metrics["f0_correlation"] > 0.99
    assert metrics["gross_pitch_errors"] == 0


def test_the_same_pitch_at_another_level_and_rate_correlates(speech: np.ndarray) -> None:
    found = track_pitch(speech, 16000, 0.3 * resample(speech, 16000, 22050), 22050)
    assert found.correlation > 0.98
    voiced = found.source[found.source > 0]
    assert len(voiced) > 120 and 85 < np.median(voiced) < 125


def test_another_pitch_does_not_correlate(speech: np.ndarray) -> None:
    assert track_pitch(speech, 16000, speech[::-1], 16000).correlation < 0.7


def test_a_constant_pitch_has_no_correlation(speech: np.ndarray) -> None:
    buzz = np.zeros_like(speech)
    buzz[::160] = 0.5
    assert math.isnan(track_pitch(speech, 16000, buzz, 16000).correlation)
    assert math.isnan(track_pitch(speech, 16000, np.zeros_like(speech), 16000).correlation)


@pytest.mark.parametrize("frames", [-23, 0, 13, 40])
def test_a_delay_is_found_and_removed(speech: np.ndarray, frames: int) -> None:
    speech = speech[:28000]
    noise = np.random.default_rng(0).standard_normal(len(speech) + 8000)
    late = 1e-3 * noise.astype(np.float32)
    copy = 0.5 * speech[max(-frames, 0) * 160 :]
    late[max(frames, 0) * 160 :][: len(copy)] += copy
    assert estimate_delay(speech, late) == pytest.approx(frames, abs=1)
    first, second = align(speech, late, frames)
    assert len(first) == len(second) >= len(speech) - 40 * 160
    assert np.corrcoef(first, second)[0, 1] > 0.95


def test_unlike_recordings_have_no_delay(speech: np.ndarray) -> None:
    speech = speech[:28000]
    assert estimate_delay(speech, np.zeros(16000, np.float32)) == 0
    assert estimate_delay(speech[:1600], speech[:1600]) == 0
    assert estimate_delay(speech, np.sin(np.arange(16000, dtype=np.float32))) == 0
    assert estimate_delay(speech, speech[::-1]) == 0
