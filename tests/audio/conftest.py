"""Noise for the tests of audio files."""

from __future__ import annotations

import numpy as np
import pytest

RATE = 16000


@pytest.fixture
def stereo() -> np.ndarray:
    """Ten seconds of low noise in two channels of different level."""
    noise = np.random.default_rng(0).normal(size=(2, 10 * RATE)) * [[0.1], [0.05]]
    return np.clip(noise, -0.9, 0.9).astype(np.float32)
