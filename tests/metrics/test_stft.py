"""The figures of the hold-out beside independent ones."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.metrics.stft import (
    METRIC_NAMES,
    RESOLUTIONS,
    format_metrics,
    pitch_error_metrics,
    ranking_score,
    stft_distance,
)
from rvc_jax.train.evaluator import PitchAndSpeaker

FIGURES = {"mel": 0.9, "stft": 1.5, "f0_cents": 50.0, "voicing_error": 0.1, "similarity": 0.8}


def by_librosa(rendered: np.ndarray, target: np.ndarray) -> float:
    total = 0.0
    for transform, hop, window in RESOLUTIONS:
        ours, theirs = (
            np.sqrt(
                np.maximum(
                    np.abs(
                        librosa.stft(
                            wave.astype(np.float64),
                            n_fft=transform,
                            hop_length=hop,
                            win_length=window,
                            pad_mode="constant",
                        )
                    )
                    ** 2,
                    1e-7,
                )
            )
            for wave in (rendered, target)
        )
        total += np.linalg.norm(theirs - ours) / np.linalg.norm(theirs) + np.mean(
            np.abs(np.log(theirs / ours))
        )
    return total / len(RESOLUTIONS)


def test_the_distance_of_spectrograms_is_that_of_every_row_alone() -> None:
    random = np.random.default_rng(0)
    target = 0.2 * random.standard_normal((3, 24000)).astype(np.float32)
    rendered = 0.7 * target + 0.05 * random.standard_normal(target.shape).astype(np.float32)
    samples = np.array([24000, 9001, 12000])
    rendered[2] = 0.0
    distances = np.asarray(stft_distance(rendered, target, samples))
    for row, length in enumerate(samples):
        assert distances[row] == pytest.approx(
            by_librosa(rendered[row, :length], target[row, :length]), rel=1e-4
        )
    np.testing.assert_allclose(stft_distance(target, target, samples), 0, atol=1e-6)
    silence = np.asarray(stft_distance(rendered, 0 * target, samples))
    assert np.isfinite(silence).all() and silence[2] == 0


def test_pitch_is_compared_where_both_are_voiced() -> None:
    target = np.array([[100.0, 200.0, 0.0, 0.0, 100.0, 50.0]])
    rendered = np.array([[200.0, 200.0, 90.0, 0.0, 0.0, 900.0]])
    valid = np.array([[True] * 5 + [False]])
    figures = pitch_error_metrics(rendered, target, valid)
    assert figures["f0_cents"] == pytest.approx(np.sqrt((1200**2 + 0) / 2))
    assert figures["voicing_error"] == pytest.approx(2 / 5)
    assert pitch_error_metrics(0 * rendered, target, valid) == {
        "voicing_error": pytest.approx(3 / 5)
    }


def harmonic(f0: float, rate: int, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    return sum(0.3 / k * np.sin(2 * np.pi * k * f0 * time) for k in range(1, 12)).astype(
        np.float32
    )


def test_a_tone_that_is_fifty_cents_sharp_is_heard_as_that() -> None:
    rate = 40000
    frames = np.array([300, 200])
    target = np.zeros((2, WINDOW_FRAMES * rate // 100), np.float32)
    known = np.zeros((2, WINDOW_FRAMES), np.float32)
    for row, pitch, f0, length in zip(target, known, (140.0, 220.0), frames, strict=True):
        row[: length * rate // 100] = harmonic(f0, rate, length / 100)
        pitch[:length] = f0
    known[0, 100:120] *= (
        2  # where the dataset has another pitch than is heard, nothing is compared
    )
    ear = PitchAndSpeaker(target, known, frames, rate)
    assert not ear._valid[0, 100:120].any() and ear._valid.sum() == 480
    same = ear.compare(list(target))
    assert same["f0_cents"] == 0 and same["voicing_error"] == 0
    assert ("similarity" in same) == ear.has_speaker
    assert same.get("similarity", 1) == pytest.approx(1, abs=1e-5)
    sharp = [
        harmonic(f0 * 2 ** (50 / 1200), rate, WINDOW_FRAMES / 100) for f0 in (140.0, 220.0)
    ]
    figures = ear.compare(sharp)
    assert figures["f0_cents"] == pytest.approx(50, abs=4) and figures["voicing_error"] < 0.03
    silent = ear.compare([np.zeros(WINDOW_FRAMES * rate // 100, np.float32)] * 2)
    assert "f0_cents" not in silent and silent["voicing_error"] > 0.95
    assert ear._at_feature_rate(list(target)).shape == (2, WINDOW_FRAMES * FEATURE_HOP)
    assert FEATURE_RATE // 100 == FEATURE_HOP


def test_scores_are_as_documented_and_worst_where_a_figure_is_missing() -> None:
    expected = {"mel": 0.9, "stft": 1.5, "similarity": 0.2, "score": 3.0}
    assert {by: ranking_score(FIGURES, by) for by in expected} == pytest.approx(expected)
    without = {
        name: value for name, value in FIGURES.items() if name not in ("similarity", "f0_cents")
    }
    assert [by for by in expected if ranking_score(without, by) == np.inf] == [
        "similarity",
        "score",
    ]
    assert ranking_score(FIGURES | {"mel": float("nan")}, "mel") == np.inf
    assert set(FIGURES) == set(METRIC_NAMES)
    assert (
        format_metrics(without)
        == "log-mel error 0.900, STFT distance 1.500, voicing errors 10.0 %"
    )
