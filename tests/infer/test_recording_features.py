"""Features in windows are those of the whole recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.io import load
from rvc_jax.features.content import content_encoder
from rvc_jax.features.f0 import pitch_extractor
from rvc_jax.infer.chunks import CONTEXT_FRAMES
from rvc_jax.infer.features import RecordingFeatures


@pytest.fixture(scope="module")
def audio(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[: 700 * 160]


@pytest.fixture(scope="module")
def features(audio: np.ndarray) -> RecordingFeatures:
    return RecordingFeatures(audio, 700 + CONTEXT_FRAMES, pitch_extractor("swift"), content_encoder("whisper-tiny"))


def test_pitch_is_that_of_the_whole_recording(audio: np.ndarray, features: RecordingFeatures) -> None:
    whole = pitch_extractor("swift")(audio[None])[0]
    windowed = features.f0[CONTEXT_FRAMES : CONTEXT_FRAMES + 700]
    assert features.f0.shape == (700 + 2 * CONTEXT_FRAMES,)
    assert ((whole > 0) == (windowed > 0)).mean() > 0.99
    both = (whole > 0) & (windowed > 0)
    assert both.sum() > 400
    assert np.abs(1200 * np.log2(whole[both] / windowed[both])).max() < 5


def test_content_is_in_its_place(audio: np.ndarray, features: RecordingFeatures) -> None:
    """A window whose middle is the frame says the same of it, whatever the grid of windows is."""
    begin = 200
    window = audio[begin * 160 : (begin + 336) * 160]
    alone = content_encoder("whisper-tiny")(window[None])[0][60:100]
    at = (CONTEXT_FRAMES + begin) // 2 + 60

    def likeness(shift: int) -> float:
        windowed = features.content[at + shift : at + shift + 40].astype(np.float32)
        cosine = (alone * windowed).sum(1) / np.linalg.norm(alone, axis=1) / np.linalg.norm(windowed, axis=1)
        return float(cosine.mean())

    likenesses = [likeness(shift) for shift in range(-4, 5)]
    assert int(np.argmax(likenesses)) == 4
    assert likenesses[4] > 0.75  # Whisper knows where in its window a frame is
