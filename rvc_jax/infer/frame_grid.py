"""The frames of a voice, where they are not those of the features.

Pitch and content are computed at 100 frames a second. Nearly every voice renders as many; a few
render `hop` samples per frame at a sample rate that is not 100 times as large. Their frames last
hop / rate seconds, and features are interpolated to them, so that the result keeps the recording's
length and pitch. Frames of both grids are counted from the beginning of the recording, and the
ones before it are negative.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rvc_jax.config import FRAMES_PER_SECOND
from rvc_jax.infer.chunking import CONTEXT_FRAMES, LazyRows

_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class FrameGrid:
    """Converts between frames of features (100 a second) and frames of a voice."""

    hop: int
    """Samples per frame of the voice."""
    rate: int
    """Sample rate of the voice in Hz."""

    @property
    def is_plain(self) -> bool:
        """Whether both grids are the same."""
        return self.hop * FRAMES_PER_SECOND == self.rate

    def samples_at(self, frame: int) -> int:
        """The number of the sample at which a frame of features begins, rounded."""
        return round(frame * self.rate / FRAMES_PER_SECOND)

    def floor(self, frame: int) -> int:
        """The last voice frame that begins at a frame of features or before it."""
        return frame * self.rate // (FRAMES_PER_SECOND * self.hop)

    def ceil(self, frame: int) -> int:
        """The first voice frame that begins at a frame of features or behind it."""
        return -self.floor(-frame)

    def count_frames(self, frames: int) -> int:
        """The voice frames, an even number, that cover frames of features from the first on."""
        return frames if self.is_plain else 2 * -(-self.ceil(frames) // 2)

    def positions(self, start: int, stop: int) -> np.ndarray:
        """Where the voice frames start..stop begin, in frames of features: float64."""
        return np.arange(start, stop) * (FRAMES_PER_SECOND * self.hop / self.rate)

    def interpolate(self, rows: np.ndarray, first: int, start: int, stop: int) -> np.ndarray:
        """Interpolate features linearly at voice frames.

        Args:
          rows: Features [frames, channels]. The first and the last one hold beyond them.
          first: Number of the first of these frames.
          start, stop: The voice frames.

        Returns: [stop - start, channels], of the type of `rows`.
        """
        before, after, share = self._neighbors(len(rows), first, start, stop)
        share = share.astype(np.float32)[:, None]
        mixed = rows[before] * (1 - share) + rows[after] * share
        return mixed.astype(rows.dtype)

    def interpolate_f0(self, f0: np.ndarray, first: int, start: int, stop: int) -> np.ndarray:
        """Interpolate pitch at voice frames; next to an unvoiced frame the nearer one decides.

        Args and result are those of `interpolate`, for [frames] in Hz.
        """
        before, after, share = self._neighbors(len(f0), first, start, stop)
        voiced = (f0[before] > 0) & (f0[after] > 0)
        nearest = np.where(share < 0.5, f0[before], f0[after])
        linear = f0[before] * (1 - share) + f0[after] * share
        return np.where(voiced, linear, nearest).astype(f0.dtype)

    def widen_gate(self, gate: np.ndarray) -> np.ndarray:
        """The largest gain [voice frames] of a gate [frames] around every voice frame."""
        if self.is_plain:
            return gate
        count = self.ceil(len(gate)) + 1
        before, after, _ = self._neighbors(len(gate), 0, 0, count)
        return np.maximum(gate[before], gate[after])

    def map_features(
        self, content: LazyRows, f0: np.ndarray, frames: int
    ) -> tuple[LazyRows, np.ndarray]:
        """Bring content and pitch of a recording to the frames of the voice.

        Args:
          content: Rows for the frames -CONTEXT_FRAMES..; as many as `f0` has.
          f0: Pitch [frames + 2 * CONTEXT_FRAMES] in Hz.
          frames: Voice frames of the recording.

        Returns: both for the voice frames -CONTEXT_FRAMES..frames + CONTEXT_FRAMES.
        """
        if self.is_plain:
            return content, f0
        last = len(f0) - 1

        def compute(number: int) -> np.ndarray:
            start = number * _BLOCK - CONTEXT_FRAMES
            stop = start + _BLOCK
            points = self.positions(start, stop)[[0, -1]] + CONTEXT_FRAMES
            low, high = (int(point) for point in np.clip(np.floor(points), 0, last))
            rows = content.read(low, min(high + 2, last + 1))
            return self.interpolate(rows, low - CONTEXT_FRAMES, start, stop)

        count = frames + 2 * CONTEXT_FRAMES
        pitch = self.interpolate_f0(
            f0, -CONTEXT_FRAMES, -CONTEXT_FRAMES, frames + CONTEXT_FRAMES
        )
        return LazyRows(compute, _BLOCK, count), pitch

    def _neighbors(
        self, count: int, first: int, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows before and behind voice frames, and the share of the latter."""
        points = np.clip(self.positions(start, stop) - first, 0, count - 1)
        before = np.floor(points).astype(np.int64)
        after = np.minimum(before + 1, count - 1)
        return before, after, points - before
