"""Noise reduction of real speech with noise of a known kind and level."""

import sys

import numpy as np
import pytest
import scipy.signal

from rvc_jax.audio import blocks
from rvc_jax.audio.denoise import noise_like, reduce_noise
from rvc_jax.audio.loudness import rms
from rvc_jax.audio.reading import load
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

RATE = 40000
CLIPS = sorted(find_bundled_sample("voice").glob("*.flac"))[:6]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return np.concatenate([load(path, RATE) for path in CLIPS])


def white(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=samples)


def low(samples: int) -> np.ndarray:
    noise = scipy.signal.lfilter([1], [1, -0.98], white(samples))
    return noise / noise.std()


def hum(samples: int) -> np.ndarray:
    return np.sqrt(2) * np.sin(2 * np.pi * 100 * np.arange(samples) / RATE)


def level(wave: np.ndarray, where: np.ndarray) -> float:
    """Level in dB over the frames of the meter that are marked."""
    return 10 * np.log10(np.square(rms(wave, 2400, 600)[where]).mean())


def cleaned(wave: np.ndarray, strength: float = 0.7) -> np.ndarray:
    pytest.importorskip("noisereduce")
    result = wave.astype(np.float32)
    reduce_noise(result, RATE, strength)
    return result


@pytest.mark.parametrize("kind", [white, low, hum])
@pytest.mark.parametrize("noise_level", [0.003, 0.01])  # 19 and 8.5 dB below the speech
def test_the_noise_goes_and_the_speech_stays(speech, kind, noise_level):
    noisy = (speech + noise_level * kind(len(speech))).astype(np.float32)
    result = cleaned(noisy)
    levels = rms(speech, 2400, 600)
    pauses = levels < 3e-3 * levels.max()
    loud = levels > 0.05
    assert pauses.sum() > 100 and loud.sum() > 50
    assert (
        -11 < level(result, pauses) - level(noisy, pauses) < -9
    )  # a strength of 0.7 leaves -10.5 dB
    assert abs(level(result, loud) - level(noisy, loud)) < 1
    assert (result * speech).sum() / np.square(speech).sum() == pytest.approx(1, abs=0.12)
    error = 20 * np.log10((noisy - speech).std() / (result - speech).std())
    assert error > (
        1 if noise_level == 0.003 else 4
    )  # dB that the result is nearer to the clean speech


def test_clean_speech_stays_as_it_is(speech):
    result = cleaned(speech)
    assert 20 * np.log10(speech.std() / (result - speech).std()) > 30


def test_strength(speech):
    noisy = (speech + 0.01 * white(len(speech))).astype(np.float32)
    pauses = rms(speech, 2400, 600) < 3e-3 * rms(speech, 2400, 600).max()
    assert np.array_equal(cleaned(noisy, 0.0), noisy)
    drops = [
        level(cleaned(noisy, strength), pauses) - level(noisy, pauses)
        for strength in (0.3, 0.7, 1.0)
    ]
    assert (
        drops[0] == pytest.approx(20 * np.log10(0.7), abs=0.5)
        and drops[0] > drops[1] > drops[2]
    )


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("block", [8192, 100000])
def test_blocks_are_cleaned_like_the_whole(tmp_path, monkeypatch, speech, on_disk, block):
    noisy = (speech[: 10 * RATE] + 0.01 * white(10 * RATE)).astype(np.float32)
    whole = cleaned(noisy)
    monkeypatch.setattr(blocks, "BLOCK", block)
    monkeypatch.setattr(blocks, "IN_MEMORY_SECONDS", 0 if on_disk else 100)
    wave = blocks.collect_blocks([noisy], RATE, tmp_path)
    reduce_noise(wave, RATE, 0.7)
    assert np.abs(wave - whole).max() < 1e-5 * np.abs(whole).max()
    assert np.array_equal(whole, cleaned(noisy))  # there is chance in it, but always the same


@pytest.mark.parametrize("samples", [0, 1, 2047, 2048, 5000, 40001])
def test_short_and_silent_waves(speech, samples):
    for wave in (np.zeros(samples, np.float32), speech[RATE : RATE + samples]):
        result = cleaned(wave)
        assert result.shape == wave.shape and np.isfinite(result).all()
        assert wave.any() or not result.any()


def test_silence_between_stays_finite(speech):
    wave = np.concatenate([speech[:RATE], np.zeros(20 * RATE, np.float32), speech[:RATE]])
    result = cleaned(wave)
    assert np.isfinite(result).all() and not result[3 * RATE : 19 * RATE].any()
    assert result[:RATE].std() == pytest.approx(speech[:RATE].std(), rel=0.05)


def test_noise_like_has_the_spectrum_of_the_noise_under_speech(speech):
    noise = 0.01 * low(len(speech))
    estimate = noise_like((speech + noise).astype(np.float32), 2048, 5 * RATE)
    _, wanted = scipy.signal.welch(noise, RATE, nperseg=2048)
    _, found = scipy.signal.welch(estimate, RATE, nperseg=2048)
    assert np.median(np.abs(10 * np.log10(found / wanted)[4:])) < 1.5


def test_without_noisereduce(monkeypatch, speech):
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    with pytest.raises(
        UserError,
        match=r'^cleaning needs the package noisereduce: pip install -e "\.\[clean\]"$',
    ):
        reduce_noise(speech.copy(), RATE, 0.7)
