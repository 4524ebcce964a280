"""The mel-cepstral distortion of recordings whose difference is known."""

from __future__ import annotations

import math
from pathlib import Path

import librosa
import numpy as np
import pytest

from rvc_jax.audio.reading import load
from rvc_jax.metrics.mcd import ORDER, mel_cepstral_distortion, mel_cepstrum


@pytest.fixture(scope="module")
def speech(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[8000:40000]


def filtered(audio: np.ndarray, order: int, amount: float) -> np.ndarray:
    """Through a filter whose log amplitude on the mel scale is `amount` times one cosine: one
    cepstral coefficient."""
    mel = librosa.hz_to_mel(np.fft.rfftfreq(len(audio), 1 / 16000))
    gain = np.exp(amount * np.cos(np.pi * order * mel / librosa.hz_to_mel(8000)))
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio))


@pytest.mark.parametrize(("order", "amount"), [(1, 0.3), (4, 0.2), (10, -0.2)])
def test_a_filter_of_one_coefficient_is_that_far_away(order: int, amount: float) -> None:
    noise = np.random.default_rng(0).standard_normal(16000)
    difference = (mel_cepstrum(filtered(noise, order, amount)) - mel_cepstrum(noise)).mean(
        axis=0
    )
    expected = np.zeros(ORDER)
    expected[order - 1] = amount
    np.testing.assert_allclose(difference, expected, atol=0.02)
    decibels = 10 / math.log(10) * math.sqrt(2) * abs(amount)
    assert mel_cepstral_distortion(noise, filtered(noise, order, amount)) == pytest.approx(
        decibels, rel=0.1
    )


def test_level_and_pauses_do_not_count_and_timing_hardly(speech: np.ndarray) -> None:
    assert mel_cepstral_distortion(speech, speech) == 0
    assert mel_cepstral_distortion(speech, 0.1 * speech) == pytest.approx(0, abs=1e-4)
    paused = np.concatenate([np.zeros(8000), speech, np.zeros(4000)])
    assert mel_cepstral_distortion(speech, paused) < 0.3
    slower = librosa.effects.time_stretch(speech, rate=0.85)
    backwards = mel_cepstral_distortion(speech, speech[::-1])
    assert mel_cepstral_distortion(speech, slower) < 0.6 * backwards
    assert backwards > 5


def test_of_silence_and_of_too_little_there_is_none(speech: np.ndarray) -> None:
    assert mel_cepstrum(np.zeros(16000)).shape == mel_cepstrum(speech[:160]).shape == (0, ORDER)
    assert math.isnan(mel_cepstral_distortion(speech, np.zeros(16000)))
    assert math.isnan(mel_cepstral_distortion(speech[:160], speech))
