"""Samples as int16 with a scale."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.data.quantization import dequantize, quantize, scale_for_peak


@pytest.mark.parametrize("level", [1.0, 1e-3, 7.0])
def test_samples_keep_sixteen_bits_at_every_level(level: float) -> None:
    wave = (level * np.random.default_rng(0).standard_normal(10_000)).astype(np.float32)
    peak = float(np.abs(wave).max())
    scale = scale_for_peak(peak)
    stored = quantize(wave, scale)
    assert stored.dtype == np.int16 and np.abs(stored.astype(int)).max() == 32767
    back = dequantize(stored, scale)
    assert back.dtype == np.float32
    assert np.abs(back - wave).max() <= peak / 65000
    np.testing.assert_array_equal(quantize(back, scale), stored)


def test_silence_stays_silence() -> None:
    scale = scale_for_peak(0.0)
    assert np.isfinite(scale) and scale > 0
    assert not quantize(np.zeros(10, np.float32), scale).any()


def test_float_samples_with_a_scale_of_one_stay_bit_for_bit() -> None:
    wave = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(dequantize(wave, 1.0), wave)
