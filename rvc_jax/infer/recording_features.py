"""Pitch and content of a recording, computed in windows like those of the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, WINDOW_FRAMES
from rvc_jax.features.content import ContentEncoder
from rvc_jax.features.f0 import PitchExtractor
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.recording import Recording

WINDOWS_PER_BATCH = 4
"""Windows that are given to a feature extractor at once."""

WINDOW_STRIDE = WINDOW_FRAMES - 2 * CONTEXT_FRAMES
"""Frames from one window to the next: the middles of the windows cover a recording."""

BLOCK_FRAMES = WINDOWS_PER_BATCH * WINDOW_STRIDE
"""Frames whose content is computed at once."""


class RecordingFeatures:
    """Features of the frames -CONTEXT_FRAMES..frames + CONTEXT_FRAMES of a recording.

    There are 100 frames a second. The pitch of all of them is extracted at once; content, which is
    a thousand times as large, block by block when it is asked for.
    """

    def __init__(
        self,
        recording: Recording,
        pitch: PitchExtractor,
        content: ContentEncoder,
        report_pitch: Callable[[float], None] = lambda share: None,
    ):
        """report_pitch: is called with the share of the pitch that is done, 0..1."""
        self._recording = recording
        self._content = content
        self.count = recording.frames + 2 * CONTEXT_FRAMES
        """Number of frames."""
        self.f0 = self._extract_pitch(pitch, report_pitch)
        """float32 [count] in Hz; 0 is unvoiced or silent."""

    def content(self, block: int) -> np.ndarray:
        """The content of one block: float16 [BLOCK_FRAMES / 2, channels], as in a dataset."""
        windows = range(block * WINDOWS_PER_BATCH, (block + 1) * WINDOWS_PER_BATCH)
        return self._extract_middles(self._content, windows, CONTENT_HOP).astype(np.float16)

    def _extract_pitch(
        self, extract: PitchExtractor, report: Callable[[float], None]
    ) -> np.ndarray:
        """The pitch of all frames; silent windows are skipped."""
        audible = self._recording.pad_audible()
        windows = -(-self.count // WINDOW_STRIDE)
        rows = np.zeros((windows, WINDOW_STRIDE), np.float32)
        audible_windows = [
            number
            for number in range(windows)
            if audible[number * WINDOW_STRIDE : (number + 1) * WINDOW_STRIDE].any()
        ]
        for begin in range(0, len(audible_windows), WINDOWS_PER_BATCH):
            batch = audible_windows[begin : begin + WINDOWS_PER_BATCH]
            middles = self._extract_middles(extract, batch, FEATURE_HOP)
            rows[batch] = middles.reshape(-1, WINDOW_STRIDE)[: len(batch)]
            report((begin + len(batch)) / len(audible_windows))
        return np.where(audible, rows.reshape(-1)[: self.count], np.float32(0))

    def _extract_middles(
        self, extract: Callable[[np.ndarray], np.ndarray], windows: Sequence[int], hop: int
    ) -> np.ndarray:
        """Features of the middles of up to WINDOWS_PER_BATCH windows, one after the other.

        The middle of a window is the WINDOW_STRIDE frames from frame number * WINDOW_STRIDE on,
        counted from the first of the margin.

        Args:
          extract: Returns features [windows, frames, ...] of audio [windows, samples].
          windows: Numbers of the windows.
          hop: Samples per feature frame.
        """
        batch = np.zeros((WINDOWS_PER_BATCH, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        for row, number in zip(batch, windows, strict=False):
            start = (number * WINDOW_STRIDE - 2 * CONTEXT_FRAMES) * FEATURE_HOP
            row[:] = self._recording.read_formant_shifted(start, start + len(row))
        edge = CONTEXT_FRAMES * FEATURE_HOP // hop
        features = extract(batch)[:, edge:-edge]
        return features.reshape(-1, *features.shape[2:])
