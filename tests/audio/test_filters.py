"""Filters against scipy's plain forms; resampling against a known tone."""

import numpy as np
import pytest
import scipy.signal

from rvc_jax.audio.filters import high_pass, high_pass_zero_phase, resample


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=80000).astype(np.float32) * 0.2 + 0.3


@pytest.mark.parametrize("rate", [16000, 40000, 48000])
def test_high_pass_is_the_classic_filter(noise, rate):
    b, a = scipy.signal.butter(N=5, Wn=48, btype="high", fs=rate)
    filtered = high_pass(noise, rate)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(
        filtered, scipy.signal.lfilter(b, a, noise.astype(np.float64)), atol=1e-5
    )


def test_zero_phase_is_the_classic_filter(noise):
    b, a = scipy.signal.butter(N=5, Wn=48, btype="high", fs=16000)
    expected = scipy.signal.filtfilt(b, a, noise.astype(np.float64))
    np.testing.assert_allclose(high_pass_zero_phase(noise, 16000), expected, atol=1e-5)


def test_a_constant_is_removed_and_the_corner_is_3_db_down():
    rate = 16000
    corner = 100.0
    assert abs(high_pass(np.ones(rate, np.float32), rate, corner)[-100:]).max() < 1e-4
    tone = np.sin(2 * np.pi * corner * np.arange(4 * rate) / rate).astype(np.float32)
    assert high_pass(tone, rate, corner)[-rate:].std() / tone.std() == pytest.approx(
        10 ** (-3 / 20), rel=0.01
    )


@pytest.mark.parametrize("samples", [0, 1, 5, 30])
def test_short_waves(samples):
    wave = np.ones(samples, np.float32)
    assert high_pass(wave, 16000).shape == high_pass_zero_phase(wave, 16000).shape == (samples,)


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(48000, 40000), (44100, 16000), (16000, 48000), (192000, 32000)]
)
@pytest.mark.parametrize("samples", [1, 7, 44099, 100000])
def test_resample_length(from_rate, to_rate, samples):
    wave = np.ones(samples, np.float32)
    assert resample(wave, from_rate, to_rate).shape == (
        int(np.floor(samples * to_rate / from_rate + 0.5)),
    )


def test_resample_keeps_a_tone_in_place_and_drops_what_cannot_be_held():
    def tone(hz, rate):
        return np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)

    middle = slice(1000, -1000)
    np.testing.assert_allclose(
        resample(tone(440, 48000), 48000, 16000)[middle], tone(440, 16000)[middle], atol=1e-4
    )
    assert np.abs(resample(tone(9000, 48000), 48000, 16000)[middle]).max() < 1e-4
    wave = tone(440, 16000)
    np.testing.assert_array_equal(resample(wave, 16000, 16000), wave)
