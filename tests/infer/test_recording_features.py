"""Features in windows are those of the whole recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.reading import load
from rvc_jax.features.content import load_content_encoder
from rvc_jax.features.f0 import load_pitch_extractor
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.recording import Recording
from rvc_jax.infer.recording_features import BLOCK_FRAMES, RecordingFeatures
from rvc_jax.weights import store
from rvc_jax.weights.registry import ENTRIES

FRAMES = 700
FIVE_CENTS = 2 ** (5 / 1200) - 1


@pytest.fixture(scope="module")
def audio(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[: 700 * 160]


def prepared(audio: np.ndarray, silence_db: float = -300.0) -> Recording:
    return Recording(audio, 1.0, silence_db, len(audio), 16000, 1)


@pytest.fixture(scope="module")
def features(audio: np.ndarray) -> RecordingFeatures:
    return RecordingFeatures(
        prepared(audio), load_pitch_extractor("swift"), load_content_encoder("whisper-tiny")
    )


def no_content(audio: np.ndarray) -> np.ndarray:
    return np.zeros((len(audio), audio.shape[1] // 320, 1), np.float32)


@pytest.mark.parametrize(
    ("method", "alike", "near"),
    [
        ("swift", 1.0, 1.0),
        ("crepe-tiny", 0.99, 0.99),  # the best path may choose otherwise where a window ends
        # Its network normalizes by the whole row, so that no frame is quite the same.
        ("fcpe", 0.85, 0.95),
    ],
)
def test_pitch_equals_that_of_the_whole_recording(
    audio: np.ndarray, method: str, alike: float, near: float
) -> None:
    """Away from the recording's ends, most frames to 0.1 % and more of them within five cents;
    windows' seams too."""
    if method in ENTRIES and store.find(method) is None:
        pytest.skip(f"the weights of {method} are not on this machine")
    extractor = load_pitch_extractor(method)
    features = RecordingFeatures(prepared(audio), extractor, no_content)
    inner = slice(CONTEXT_FRAMES, -CONTEXT_FRAMES)
    whole = extractor(audio[None])[0, inner]
    windowed = features.f0[CONTEXT_FRAMES:-CONTEXT_FRAMES][inner]
    assert features.f0.shape == (700 + 2 * CONTEXT_FRAMES,) and whole.shape == windowed.shape
    assert ((whole > 0) == (windowed > 0)).mean() > 0.99
    both = (whole > 0) & (windowed > 0)
    off = np.abs(windowed[both] / whole[both] - 1)
    assert both.sum() > 350
    assert (off < 1e-3).mean() >= alike and (off < FIVE_CENTS).mean() >= near


def test_the_number_of_frames(features: RecordingFeatures) -> None:
    assert features.count == FRAMES + 2 * CONTEXT_FRAMES
    assert features.f0.shape == (features.count,) and features.f0.dtype == np.float32
    block = features.content(0)
    assert block.shape == (BLOCK_FRAMES // 2, 384) and block.dtype == np.float16


def test_silent_windows_are_skipped(audio: np.ndarray) -> None:
    paused = np.concatenate(
        [audio[:48000], np.zeros(10 * 16000, np.float32), audio[48000:96000]]
    )
    rows = []

    def pitch(batch: np.ndarray) -> np.ndarray:
        rows.append(np.abs(batch).max(axis=1) > 0)
        return np.full((len(batch), batch.shape[1] // 160), 100.0, np.float32)

    f0 = RecordingFeatures(prepared(paused, -60.0), pitch, no_content).f0[CONTEXT_FRAMES:]
    assert (f0[20:280] == 100).all() and (f0[1320:1580] == 100).all()
    assert (f0[320:1280] == 0).all()
    assert (
        len(rows) == 2 and sum(row.sum() for row in rows) <= 6
    )  # of the eight windows with what was left out


def test_content_is_aligned(audio: np.ndarray, features: RecordingFeatures) -> None:
    """Content hardly depends on where the windows begin."""
    begin = 200
    window = audio[begin * 160 : (begin + 336) * 160]
    alone = load_content_encoder("whisper-tiny")(window[None])[0][60:100]
    at = (CONTEXT_FRAMES + begin) // 2 + 60
    content = features.content(0)

    def likeness(shift: int) -> float:
        windowed = content[at + shift : at + shift + 40].astype(np.float32)
        cosine = (
            (alone * windowed).sum(1)
            / np.linalg.norm(alone, axis=1)
            / np.linalg.norm(windowed, axis=1)
        )
        return float(cosine.mean())

    likenesses = [likeness(shift) for shift in range(-4, 5)]
    assert int(np.argmax(likenesses)) == 4
    assert likenesses[4] > 0.75  # Whisper knows where in its window a frame is
