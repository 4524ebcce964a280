"""What is said of a recording in which little or nothing was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.level import measure_level
from rvc_jax.config import ConvertConfig
from rvc_jax.infer.notes import describe_findings
from rvc_jax.infer.recording import Recording

USUAL = ConvertConfig()
NOISE = np.random.default_rng(0).normal(0, 0.1, 80000).astype(np.float32)


def notes(
    wave: np.ndarray, voiced: int = 200, config: ConvertConfig = USUAL
) -> tuple[str, ...]:
    level = measure_level(wave, 16000)
    gain = 1.0 if level.is_silent else 0.7 / level.speech
    recording = Recording(wave, gain, config.silence_db, len(wave), 16000, 1, level=level)
    f0 = np.zeros(len(wave) // 160, np.float32)
    f0[:voiced] = 200
    return describe_findings(recording, f0, config, has_pitch=True)


def test_usual_speech_needs_no_word() -> None:
    assert notes(NOISE) == () == notes(NOISE * 0.03)


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.0, "digital silence"), (1e-5, "peaks at -106 dB"), (1e-4, "peaks at -86 dB")],
)
def test_silence(gain: float, words: str) -> None:
    (note,) = notes(NOISE * np.float32(gain), voiced=0)
    assert words in note and "check the microphone" in note


def test_a_click_in_digital_silence() -> None:
    click = np.zeros(80000, np.float32)
    click[40000] = 0.5
    sound, pitch = notes(click, voiced=0)
    assert "sound was found in 0.2 of 5.0 s" in sound and "no pitch" in pitch


def test_a_gate_that_never_opens() -> None:
    (note,) = notes(NOISE, config=ConvertConfig(silence_db=0))
    assert "nothing in the recording is above --silence-db 0" in note and "-60" in note


def test_a_gate_that_hardly_opens() -> None:
    word = np.zeros(16000 * 60, np.float32)
    word[:8000] = NOISE[:8000]
    (note,) = notes(word)
    assert "0.6 of 60.0 s" in note


@pytest.mark.parametrize(("voiced", "words"), [(0, "no pitch"), (3, "hardly any pitch")])
def test_no_pitch(voiced: int, words: str) -> None:
    (note,) = notes(NOISE, voiced)
    assert words in note and "--f0-method" in note
    assert not notes(NOISE, voiced, ConvertConfig(f0_file=Path("curve.csv")))


def test_very_quiet_recordings() -> None:
    (note,) = notes(NOISE * np.float32(0.003))
    assert "very quiet (its sound peaks at -57 dB of full scale)" in note
