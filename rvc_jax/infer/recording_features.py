"""Pitch and content of a recording, computed in windows like those the voice was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, WINDOW_FRAMES
from rvc_jax.features.content import ContentEncoder
from rvc_jax.features.f0 import PitchExtractor
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.recording import Recording

WINDOWS_AT_ONCE = 4
_STRIDE = WINDOW_FRAMES - 2 * CONTEXT_FRAMES
BLOCK_FRAMES = WINDOWS_AT_ONCE * _STRIDE
"""Frames whose content is computed at once."""


class RecordingFeatures:
    """Features of frames -CONTEXT_FRAMES..frames + CONTEXT_FRAMES of a recording, 100 frames a
    second.

    The pitch of all of them is found at once; content, which is a thousand times as much, as it is
    asked for.
    """

    def __init__(
        self,
        recording: Recording,
        pitch: PitchExtractor,
        content: ContentEncoder,
        progress: Callable[[float], None] = lambda share: None,
    ):
        """progress: is told the share of the pitch that has been found, 0..1."""
        self._recording = recording
        self._content = content
        self.count = recording.frames + 2 * CONTEXT_FRAMES
        """Of frames."""
        self.f0 = self._pitch(pitch, progress)
        """float32 [count] in Hz, 0 is unvoiced; so is silence."""

    def content(self, block: int) -> np.ndarray:
        """Block after block of the content: float16 [BLOCK_FRAMES / 2, channels], as in a
        dataset."""
        windows = range(block * WINDOWS_AT_ONCE, (block + 1) * WINDOWS_AT_ONCE)
        return self._middles(self._content, windows, CONTENT_HOP).astype(np.float16)

    def _pitch(self, extract: PitchExtractor, progress: Callable[[float], None]) -> np.ndarray:
        """Silent windows are not listened to."""
        heard = self._recording.audible_frames()
        f0 = np.zeros(-(-self.count // _STRIDE) * _STRIDE, np.float32)
        sounding = [
            n for n in range(len(f0) // _STRIDE) if heard[n * _STRIDE : (n + 1) * _STRIDE].any()
        ]
        for begin in range(0, len(sounding), WINDOWS_AT_ONCE):
            some = sounding[begin : begin + WINDOWS_AT_ONCE]
            f0.reshape(-1, _STRIDE)[some] = self._middles(extract, some, FEATURE_HOP).reshape(
                -1, _STRIDE
            )[: len(some)]
            progress((begin + len(some)) / len(sounding))
        return np.where(heard, f0[: self.count], np.float32(0))

    def _middles(
        self, extract: Callable[[np.ndarray], np.ndarray], windows: Sequence[int], hop: int
    ) -> np.ndarray:
        """The middles of up to WINDOWS_AT_ONCE windows' features, one after the other.

        A window's middle is the frames number * _STRIDE.. from the first on; hop: the samples of
        one feature frame.
        """
        batch = np.zeros((WINDOWS_AT_ONCE, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        for row, number in zip(batch, windows, strict=False):
            start = (number * _STRIDE - 2 * CONTEXT_FRAMES) * FEATURE_HOP
            row[:] = self._recording.listened(start, start + len(row))
        edge = CONTEXT_FRAMES * FEATURE_HOP // hop
        features = extract(batch)[:, edge:-edge]
        return features.reshape(-1, *features.shape[2:])
