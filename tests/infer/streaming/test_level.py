"""The level of a stream is that of its voice so far."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.audio.level import NORMAL_PEAK
from rvc_jax.infer.streaming.level import StreamLevel

NOISE = np.random.default_rng(0).uniform(-1, 1, 32000).astype(np.float32)
VOICED = np.full(200, 150.0, np.float32)


@pytest.mark.parametrize("peak", [0.5, 0.03, 0.003, 0.0003])
def test_quiet_voice_is_raised_and_loud_voice_is_not(peak: float) -> None:
    level = StreamLevel()
    gain = level.feature_gain(NOISE * np.float32(peak))
    assert gain == pytest.approx(max(1, NORMAL_PEAK / peak), rel=0.01)
    assert level.gate_gain == 1  # nothing is known to be voice yet
    level.update(NOISE * np.float32(peak), VOICED, 200)
    assert level.gate_gain == pytest.approx(max(1, NORMAL_PEAK / peak), rel=0.01)


def test_what_is_unvoiced_or_silent_does_not_open_the_gate() -> None:
    level = StreamLevel()
    level.update(NOISE * np.float32(0.001), 0 * VOICED, 200)
    level.update(NOISE * np.float32(0.00005), VOICED, 200)
    assert level.gate_gain == 1
    assert level.feature_gain(NOISE * np.float32(0.00005)) == 1


def test_the_level_stays_in_pauses_and_falls_with_quieter_voice() -> None:
    level = StreamLevel()
    level.update(NOISE * np.float32(0.05), VOICED, 200)
    before = level.gate_gain
    for _ in range(100):
        level.update(NOISE * np.float32(0.001), 0 * VOICED, 200)
    assert level.gate_gain == before
    for _ in range(30):
        level.update(NOISE * np.float32(0.005), VOICED, 200)
    assert level.gate_gain == pytest.approx(NORMAL_PEAK / 0.005, rel=0.01)


def test_a_slam_does_not_count() -> None:
    level = StreamLevel()
    wave = NOISE * np.float32(0.005)
    wave[16000:20000] = 0.9
    f0 = VOICED.copy()
    f0[99:126] = 0
    level.update(wave, f0, 200)
    assert level.gate_gain == pytest.approx(NORMAL_PEAK / 0.005, rel=0.01)
