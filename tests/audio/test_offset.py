"""Offsets are removed wherever they begin, and sound without one is not touched."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from rvc_jax.audio.offset import InitialOffset, OffsetRemover
from rvc_jax.audio.reading import decode
from rvc_jax.data.sources import find_bundled_sample


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, int]:
    wave, rate = decode(find_bundled_sample("voice") / "vm-choose_password.flac")
    return wave[0], rate


def remove(wave: np.ndarray, rate: int, size: int = 1 << 19) -> np.ndarray:
    blocks = [wave[start : start + size] for start in range(0, len(wave), size)]
    return np.concatenate(list(OffsetRemover(rate).remove(blocks)))


def high_passed(wave: np.ndarray, rate: int) -> np.ndarray:
    return scipy.signal.sosfilt(scipy.signal.butter(5, 48, "high", fs=rate, output="sos"), wave)


def test_sound_without_an_offset_passes_to_the_bit() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 50000).astype(np.float32)
    for wave, rate in [
        (noise, 16000),
        (np.zeros(30000, np.float32), 48000),
        (noise[:5], 8000),
        *(
            (decode(path)[0][0] * np.float32(gain), decode(path)[1])
            for path in sorted(find_bundled_sample("voice").glob("*.flac"))[:6]
            for gain in (1, 0.001)
        ),
    ]:
        np.testing.assert_array_equal(remove(wave, rate, 7001), wave)
    assert not len(remove(np.zeros(0, np.float32), 16000))


@pytest.mark.parametrize("gain", [1, 0.01])
@pytest.mark.parametrize("offset", [0.5, -0.3, 0.02])
def test_a_constant_leaves_no_thump(
    speech: tuple[np.ndarray, int], gain: float, offset: float
) -> None:
    wave, rate = speech
    wave = wave * np.float32(gain)
    result = high_passed(remove(wave + np.float32(offset), rate), rate)
    expected = high_passed(wave, rate)
    peak = np.abs(expected).max()
    assert np.abs(result).max() < 1.1 * peak
    assert np.abs(result - expected)[rate // 100 : -rate // 100].max() < 0.1 * peak


@pytest.mark.parametrize("second", [0.05, 0.7, 1.3])
def test_a_jump_leaves_no_thump(speech: tuple[np.ndarray, int], second: float) -> None:
    wave, rate = speech
    jumping = wave - np.float32(0.1)
    jumping[round(second * rate) :] += np.float32(0.5)
    results = [remove(jumping, rate, size) for size in (len(wave), 999, 40001)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    peak = np.abs(high_passed(wave, rate)).max()
    assert np.abs(high_passed(jumping, rate)).max() > 2 * peak
    assert np.abs(high_passed(results[0], rate)).max() < 1.1 * peak


def test_jumps_far_into_a_long_wave_are_found() -> None:
    rate = 8000
    noise = np.random.default_rng(0).normal(0, 0.01, 40 * rate).astype(np.float32)
    jumping = noise.copy()
    for second, offset in ((7.99, 0.2), (16.5, -0.4), (31.0, 0.2)):
        jumping[round(second * rate) :] += np.float32(offset)
    remover = OffsetRemover(rate)
    result = np.concatenate([remover.push(jumping), remover.push(jumping[:0], last=True)])
    assert len(result) == len(noise) and np.abs(result).max() < 0.06
    assert remover.largest == pytest.approx(0.2, abs=0.01)


def test_rumble_is_not_taken_for_jumps() -> None:
    rate = 16000
    time = np.arange(10 * rate) / rate
    rumble = 0.3 * np.sin(2 * np.pi * 3 * time) + 0.001 * np.sin(2 * np.pi * 300 * time)
    rumble = rumble.astype(np.float32)
    result = remove(rumble, rate)
    # A constant at most: the shape stays.
    assert np.ptp(result[rate:-rate] - rumble[rate:-rate]) < 1e-6


@pytest.mark.parametrize("size", [1, 50, 5000])
def test_a_stream_loses_its_initial_offset(size: int) -> None:
    wave = np.random.default_rng(0).normal(0, 0.01, 5000).astype(np.float32)

    def stream(wave: np.ndarray) -> np.ndarray:
        remover = InitialOffset(16000)
        parts = [remover.push(wave[a : a + size]) for a in range(0, len(wave), size)]
        return np.concatenate([*parts, remover.push(wave[:0], last=True)])

    np.testing.assert_array_equal(stream(wave), wave)
    np.testing.assert_allclose(stream(wave + np.float32(0.5)), wave, atol=2e-3)
    np.testing.assert_array_equal(stream(wave[:30]), wave[:30])


def test_an_offset_that_a_coder_lets_die_away_leaves_no_thump(
    speech: tuple[np.ndarray, int],
) -> None:
    """As Opus does, by a filter of 3 Hz."""
    wave, rate = speech
    dying = wave + np.exp(-np.arange(len(wave)) / rate / 0.053).astype(np.float32) * 0.5
    peak = np.abs(high_passed(wave, rate)).max()
    assert np.abs(high_passed(dying, rate)).max() > 2 * peak
    assert np.abs(high_passed(remove(dying.astype(np.float32), rate), rate)).max() < 1.1 * peak
