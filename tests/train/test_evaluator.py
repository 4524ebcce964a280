"""The evaluation of the hold-out on tones whose differences are known."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from random_windows import PRESET, random_windows

from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.train.evaluator import Evaluator, PitchAndSpeaker
from rvc_jax.train.networks import build_networks


def harmonic(f0: float, rate: int, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    return sum(0.3 / k * np.sin(2 * np.pi * k * f0 * time) for k in range(1, 12)).astype(
        np.float32
    )


def test_a_tone_that_is_fifty_cents_sharp_is_measured_as_that() -> None:
    rate = 40000
    frames = np.array([300, 200])
    target = np.zeros((2, WINDOW_FRAMES * rate // 100), np.float32)
    known = np.zeros((2, WINDOW_FRAMES), np.float32)
    for row, pitch, f0, length in zip(target, known, (140.0, 220.0), frames, strict=True):
        row[: length * rate // 100] = harmonic(f0, rate, length / 100)
        pitch[:length] = f0
    # Where the dataset has another pitch than the detector, nothing is compared.
    known[0, 100:120] *= 2
    scorer = PitchAndSpeaker(target, known, frames, rate)
    assert not scorer.valid[0, 100:120].any() and scorer.valid.sum() == 480
    same = scorer.compare(list(target))
    assert same["f0_median_cents"] == same["f0_rmse_cents"] == 0
    assert same["gross_pitch_errors"] == same["voicing_error"] == 0
    assert ("similarity" in same) == scorer.has_speaker
    assert same.get("similarity", 1) == pytest.approx(1, abs=1e-5)
    sharp = [
        harmonic(f0 * 2 ** (50 / 1200), rate, WINDOW_FRAMES / 100) for f0 in (140.0, 220.0)
    ]
    metrics = scorer.compare(sharp)
    assert metrics["f0_rmse_cents"] == pytest.approx(50, abs=4)
    assert metrics["f0_median_cents"] == pytest.approx(50, abs=4)
    assert metrics["gross_pitch_errors"] == 0 and metrics["voicing_error"] < 0.03
    silent = scorer.compare([np.zeros(WINDOW_FRAMES * rate // 100, np.float32)] * 2)
    assert "f0_median_cents" not in silent and silent["voicing_error"] > 0.95
    assert scorer.resample_windows(list(target)).shape == (2, WINDOW_FRAMES * FEATURE_HOP)
    assert FEATURE_RATE // 100 == FEATURE_HOP


def test_a_chips_options_reach_the_compiler() -> None:
    networks = build_networks(PRESET, 3, KernelConfig(scoped_vmem_kib=4096))
    evaluator = Evaluator(networks, random_windows(2, frames=WINDOW_FRAMES))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_scoped_vmem_limit_kib"):
        evaluator(networks.synthesizer.init(0))
