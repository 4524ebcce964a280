"""The options of a conversion have the effect that they state, in a small untrained voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micro import MICRO
from untrained_voices import make_converter, untrained_voice, with_weights

from rvc_jax.audio.reading import load
from rvc_jax.config import ConvertConfig
from rvc_jax.infer.f0_curve import F0Curve
from rvc_jax.infer.recording import Source
from rvc_jax.voices.model import VoiceModel

RATE = 16000


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    loud_source = {"dec.m_source.l_linear.weight": np.float32([[5.0]])}
    return with_weights(untrained_voice(MICRO), loud_source)


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    """Two seconds of speech after a second of silence, before which there is no pitch."""
    return np.concatenate([np.zeros(RATE, np.float32), load(other_clip, RATE)[RATE : 3 * RATE]])


def converted(voice: VoiceModel, clip: np.ndarray, **options: object) -> np.ndarray:
    return make_converter(voice, ConvertConfig(noise_scale=0, **options), (336,)).convert_array(
        clip, RATE
    )


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    return float(
        20 * np.log10(np.linalg.norm(one - other) / np.linalg.norm(other - other.mean()) + 1e-9)
    )


@pytest.fixture(scope="module")
def plain(voice: VoiceModel, clip: np.ndarray) -> np.ndarray:
    return converted(voice, clip)


def test_a_pitch_file_replaces_the_pitch(
    voice: VoiceModel,
    clip: np.ndarray,
    plain: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The curve that a transposition made, given as a file, gives the same result."""
    curves = []
    apply = F0Curve.apply

    def keep(self: F0Curve, f0: np.ndarray, first: int, semitones: float) -> np.ndarray:
        curves.append((first, apply(self, f0, first, semitones)))
        return curves[-1][1]

    monkeypatch.setattr(F0Curve, "apply", keep)
    transposed = converted(voice, clip, transpose=4)
    path = tmp_path / "curve.csv"
    times = [
        (first + number, value) for first, curve in curves for number, value in enumerate(curve)
    ]
    path.write_text(
        "".join(f"{time / 100},{value}\n" for time, value in times if 0 <= time < 300)
    )
    assert decibels(converted(voice, clip, f0_file=path), transposed) < -40
    assert decibels(plain, transposed) > -20


def test_autotune_and_formants_are_heard(
    voice: VoiceModel, clip: np.ndarray, plain: np.ndarray
) -> None:
    assert decibels(converted(voice, clip, autotune=True), plain) > -20
    assert decibels(converted(voice, clip, autotune=True, autotune_strength=0.0), plain) < -60
    shifted = converted(voice, clip, formant_shift=4)
    assert shifted.shape == plain.shape and decibels(shifted, plain) > -30


def test_another_rate_has_the_exact_length(voice: VoiceModel, clip: np.ndarray) -> None:
    converter = make_converter(voice, ConvertConfig(resample_rate=44100), (336,))
    for samples, rate in ((44101, 44100), (30001, 16000), (30002, 22050)):
        result = converter.convert(Source.from_array(np.resize(clip[RATE:], samples), rate))
        assert result.rate == 44100 and result.samples == round(samples * 44100 / rate)
        assert 0.01 < np.abs(result.to_array()).max() <= 0.99 + 1e-6


def test_the_result_is_cleaned(voice: VoiceModel, clip: np.ndarray, plain: np.ndarray) -> None:
    pytest.importorskip("noisereduce")
    cleaned = converted(voice, clip, clean_audio=True, clean_strength=1.0)
    assert np.isfinite(cleaned).all() and cleaned.shape == plain.shape
    assert np.std(cleaned) < 0.9 * np.std(plain)
