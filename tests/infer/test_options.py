"""Checks of the options, and the effects that they have in a small untrained voice."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from micro import MICRO
from untrained_voices import make_converter, untrained_voice, with_weights

from rvc_jax.audio.reading import load
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.f0_curve import F0Curve
from rvc_jax.infer.options import check_options
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


def test_autotune_and_formants_change_the_result(
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"auto_transpose": True, "proposed_pitch": True},
            "--auto-transpose and --proposed-pitch exclude each other",
        ),
        (
            {"f0_file": Path("a"), "autotune": True},
            "--f0-file and --autotune exclude each other",
        ),
        (
            {"f0_file": Path("a"), "auto_transpose": True},
            "--f0-file and --auto-transpose exclude each other",
        ),
        (
            {"autotune": True, "autotune_key": "C"},
            "--autotune-key C needs --autotune-scale major or minor",
        ),
        (
            {"autotune": True, "autotune_scale": "minor"},
            "--autotune-scale minor needs --autotune-key",
        ),
        ({"autotune_scale": "minor", "autotune_key": "A"}, "need --autotune"),
        (
            {"autotune_strength": 1.5},
            "--autotune-strength 1.5 is out of range: it must be from 0 to 1",
        ),
        (
            {"proposed_pitch_threshold": 49},
            "--proposed-pitch-threshold 49 is out of range: it must be from 50 to 1200",
        ),
        ({"formant_shift": float("nan")}, "--formant-shift nan is out of range"),
        (
            {"resample_rate": 7999},
            "--resample-rate 7999 is out of range: it must be from 8000 to 192000",
        ),
        ({"clean_strength": -0.1}, "--clean-strength -0.1 is out of range"),
        ({"speaker": 2}, "--speaker 2 is out of range: it must be from 0 to 1"),
    ],
)
def test_bad_options_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(dataclasses.replace(ConvertConfig(), **changes), speakers=2)


def test_cleaning_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    check_options(ConvertConfig(resample_rate=8000))
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[clean\]"'):
        check_options(ConvertConfig(clean_audio=True))
