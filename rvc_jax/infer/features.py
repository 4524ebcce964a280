"""Pitch and content of a whole recording, computed in windows like those the voice was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, WINDOW_FRAMES
from rvc_jax.features.content import ContentEncoder
from rvc_jax.features.f0 import PitchExtractor
from rvc_jax.infer.chunks import CONTEXT_FRAMES

WINDOWS_AT_ONCE = 4
_STRIDE = WINDOW_FRAMES - 2 * CONTEXT_FRAMES


class RecordingFeatures:
    """Features of frames -CONTEXT_FRAMES..stop of a recording, 100 frames a second."""

    def __init__(self, audio: np.ndarray, stop: int, pitch: PitchExtractor, content: ContentEncoder):
        """audio: [samples] at 16 kHz, reflected beyond its ends; stop: even number of frames."""
        count = CONTEXT_FRAMES + stop
        windows = _windows(audio, count)
        self.f0 = _joined(pitch, windows, FEATURE_HOP, np.float32)[:count]
        """float32 [frames] in Hz, 0 is unvoiced."""
        self.content = _joined(content, windows, CONTENT_HOP, np.float16)[: count // 2]
        """float16 [frames / 2, channels], as in a dataset."""

    def median_f0(self, frames: int) -> float:
        """Median pitch in Hz of the recording proper, its first `frames` frames; 0 if nothing is voiced."""
        f0 = self.f0[CONTEXT_FRAMES : CONTEXT_FRAMES + frames]
        return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 0.0


def _windows(audio: np.ndarray, count: int) -> np.ndarray:
    """Overlapping windows [windows, WINDOW_FRAMES * FEATURE_HOP] whose middles are `count` frames or more."""
    windows = -(-count // _STRIDE)
    before = 2 * CONTEXT_FRAMES * FEATURE_HOP
    length = (windows * _STRIDE + 2 * CONTEXT_FRAMES) * FEATURE_HOP
    after = max(length - before - len(audio), 0)
    padded = np.pad(audio, (before, after), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_FRAMES * FEATURE_HOP)
    return views[:: _STRIDE * FEATURE_HOP][:windows]


def _joined(extract: Callable[[np.ndarray], np.ndarray], windows: np.ndarray, hop: int, dtype: type) -> np.ndarray:
    """The middles of every window's features, one after the other; `hop` is the samples of one feature frame."""
    edge = CONTEXT_FRAMES * FEATURE_HOP // hop
    middles = []
    for begin in range(0, len(windows), WINDOWS_AT_ONCE):
        batch = np.zeros((WINDOWS_AT_ONCE, windows.shape[1]), np.float32)
        some = windows[begin : begin + WINDOWS_AT_ONCE]
        batch[: len(some)] = some
        features = extract(batch)[: len(some), edge:-edge]
        middles.append(features.reshape(-1, *features.shape[2:]).astype(dtype))  # hours of float32 would take gigabytes
    return np.concatenate(middles)
