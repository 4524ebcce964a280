"""Formants of a vowel whose resonances are known, before and after they are moved."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal

from rvc_jax.audio.formants import CONTEXT, HOP, shift_formants

RATE = 16000
FORMANTS = ((600, 90), (1700, 120), (2900, 160))
"""Center and bandwidth in Hz."""


def vowel(f0: float, seconds: float = 1.5) -> np.ndarray:
    """Pulses of a pitch through resonators: float32 [samples]."""
    phase = 2 * np.pi * f0 * np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.cos(number * phase) for number in range(1, int(7500 / f0)))
    for center, bandwidth in FORMANTS:
        radius = np.exp(-np.pi * bandwidth / RATE)
        wave = scipy.signal.lfilter(
            [1], [1, -2 * radius * np.cos(2 * np.pi * center / RATE), radius**2], wave
        )
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def measured_formants(wave: np.ndarray) -> np.ndarray:
    """By linear prediction with a pole pair per formant, in Hz."""
    middle = wave[RATE // 4 : -RATE // 4].astype(np.float64)
    poles = np.roots(librosa.lpc(middle * np.hanning(len(middle)), order=2 * len(FORMANTS)))
    return np.sort(np.angle(poles[poles.imag > 0])) * RATE / (2 * np.pi)


def measured_pitch(wave: np.ndarray, near: float) -> float:
    """By the tenth harmonic in a long spectrum, in Hz."""
    middle = wave[RATE // 4 : -RATE // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 20))
    hz = np.arange(len(spectrum)) * RATE / (1 << 20)
    return float(hz[np.argmax(np.where(np.abs(hz - 10 * near) < near / 3, spectrum, 0))] / 10)


@pytest.mark.parametrize("f0", [90.0, 110.0])
@pytest.mark.parametrize("semitones", [-3, 2, 4])
def test_formants_move_and_the_pitch_stays(f0: float, semitones: float) -> None:
    wave = vowel(f0)
    before = measured_formants(wave)
    np.testing.assert_allclose(before, [center for center, _ in FORMANTS], rtol=0.04)
    shifted = shift_formants(wave, semitones)
    assert shifted.dtype == np.float32 and len(shifted) == len(wave)
    np.testing.assert_allclose(
        measured_formants(shifted) / before, 2 ** (semitones / 12), rtol=0.06
    )
    assert abs(1200 * np.log2(measured_pitch(shifted, f0) / f0)) < 3
    assert np.std(shifted) == pytest.approx(np.std(wave), rel=0.1)


@pytest.mark.parametrize("samples", [0, 1, 100, 1024, 16001])
def test_no_shift_is_no_change(samples: int) -> None:
    wave = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    assert np.abs(shift_formants(wave, 0) - wave).max(initial=0) < 1e-5
    assert len(shift_formants(wave, 3)) == samples


def test_silence_stays_silent() -> None:
    wave = np.concatenate([vowel(120, 0.5), np.zeros(RATE, np.float32)])
    shifted = shift_formants(wave, 5)
    assert np.isfinite(shifted).all() and np.abs(shifted[RATE // 2 + CONTEXT :]).max() == 0


def test_a_block_with_its_reach_is_part_of_the_whole() -> None:
    wave = vowel(130) + np.random.default_rng(0).normal(0, 1e-3, int(1.5 * RATE)).astype(
        np.float32
    )
    whole = shift_formants(wave, 3)
    begin = 20 * HOP
    end = 52 * HOP + 77
    block = shift_formants(wave[begin - CONTEXT : end + CONTEXT], 3)[CONTEXT:-CONTEXT]
    np.testing.assert_allclose(block, whole[begin:end], atol=1e-6)
