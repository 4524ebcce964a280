"""The level of speech, whatever else is in a recording."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.audio import level as level_module
from rvc_jax.audio.level import NORMAL_PEAK, measure_level
from rvc_jax.audio.reading import decode
from rvc_jax.data.sources import find_bundled_sample

RATE = 16000


def speech() -> np.ndarray:
    path = find_bundled_sample("voice") / "vm-choose_password.flac"
    return decode(path)[0][0][::3]


def test_the_level_of_speech_is_its_peak() -> None:
    paths = sorted(find_bundled_sample("voice").glob("*.flac"))[:20]
    for path in paths:
        wave, rate = decode(path)
        found = measure_level(wave[0], rate)
        assert found.speech == found.peak == pytest.approx(np.abs(wave).max())


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01, 0.001])
def test_the_level_follows_the_gain(gain: float) -> None:
    wave = speech() * np.float32(gain)
    found = measure_level(wave, RATE)
    assert found.speech * found.raising_gain == pytest.approx(
        max(NORMAL_PEAK, np.abs(wave).max())
    )


def test_short_loud_sounds_do_not_count() -> None:
    quiet = np.tile(speech(), 4) * np.float32(0.01)
    slammed = quiet.copy()
    slammed[20000:24800] = 0.9  # 0.3 s
    found = measure_level(slammed, RATE)
    assert found.peak == pytest.approx(0.9)
    assert np.abs(quiet).max() * 0.9 < found.speech < np.abs(quiet).max() * 4


def test_a_word_amid_noise_counts_where_the_rest_is_no_speech() -> None:
    noise = np.random.default_rng(0).normal(0, 3e-4, 160000).astype(np.float32)
    noise[80000:86400] += speech()[8000:14400]
    assert measure_level(noise, RATE).speech < 0.01
    asked = []

    def has_speech(wave: np.ndarray, rate: int) -> bool:
        asked.append((len(wave) / rate, float(np.abs(wave).max())))
        return False

    found = measure_level(noise, RATE, has_speech)
    assert found.speech == found.peak > 0.03
    ((seconds, peak),) = asked
    assert seconds == 8 and peak == pytest.approx(NORMAL_PEAK * 4, rel=0.8)


def test_a_word_amid_digital_silence_counts() -> None:
    wave = np.zeros(RATE * 100, np.float32)
    wave[80000:86400] += speech()[8000:14400]
    found = measure_level(wave, RATE)
    assert found.speech == found.peak


def test_a_minute_of_speech_in_an_hour_of_noise_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(level_module, "BLOCK", 12345)
    noise = np.random.default_rng(0).normal(0, 1e-4, 3600 * 1000).astype(np.float32)
    noise[1_000_000:1_060_000] += np.random.default_rng(1).uniform(-0.3, 0.3, 60_000)
    found = measure_level(noise, 1000)
    assert found.speech == found.peak


@pytest.mark.parametrize("peak", [0.0, 1e-30, 2 / 32768, 0.99e-4])
def test_silence_is_not_raised(peak: float) -> None:
    wave = np.random.default_rng(0).uniform(-peak, peak, RATE).astype(np.float32)
    found = measure_level(wave, RATE)
    assert found.is_silent and found.raising_gain == 1


def test_nothing_is_silent() -> None:
    assert measure_level(np.zeros(0, np.float32), RATE).is_silent


@pytest.mark.parametrize("is_speech", [False, True])
def test_quiet_noise_is_not_raised_where_speech_is_looked_for(is_speech: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, 50000).astype(np.float32)
    found = measure_level(noise, RATE, lambda *_: is_speech, check_quiet=True)
    assert (found.raising_gain > 10) == is_speech
    loud = measure_level(100 * noise, RATE, lambda *_: False, check_quiet=True)
    assert not loud.is_noise
