"""The melody meter hears what was done to a recording."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.metrics.melody import track_pitch


@pytest.fixture(scope="module")
def speech(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[16000:56000]


def test_the_same_melody_at_another_level_and_rate_correlates(speech: np.ndarray) -> None:
    melody = track_pitch(speech, 16000, 0.3 * resample(speech, 16000, 22050), 22050)
    assert melody.correlation > 0.98
    voiced = melody.source[melody.source > 0]
    assert len(voiced) > 120 and 85 < np.median(voiced) < 125


def test_another_melody_does_not(speech: np.ndarray) -> None:
    assert track_pitch(speech, 16000, speech[::-1], 16000).correlation < 0.7


def test_without_a_melody_there_is_no_correlation(speech: np.ndarray) -> None:
    buzz = np.zeros_like(speech)
    buzz[::160] = 0.5
    assert math.isnan(track_pitch(speech, 16000, buzz, 16000).correlation)
    assert math.isnan(track_pitch(speech, 16000, np.zeros_like(speech), 16000).correlation)
