"""Timestamps of a track: how much silence stands before a frame."""

from __future__ import annotations

_FRAME_SHARE = 0.75  # of a frame that timestamps may jitter by
_LEAST_JITTER = 0.01  # seconds
_MOST_DRIFT = (
    0.1  # seconds by which samples and timestamps may disagree, as in ffmpeg's aresample
)
_LONGEST_GAP = 3600.0
_LONGEST_STREAM_GAP = 10.0  # as in the ffmpeg program


class Timeline:
    """Compares the timestamps of consecutive frames with the samples before them.

    Where timestamps leave a gap, nothing was recorded, and silence keeps the time. A clock that
    goes back, or jumps by more than a gap can be, was set anew: nothing is missing there.

    Args:
        start: Time of the first sample, in seconds; a later first frame has silence before it.
        is_stream: Whether the format lets its clock be set anew on the way.
    """

    def __init__(self, start: float, is_stream: bool) -> None:
        self._base = start
        self._end: float | None = None  # of the last frame, by its timestamp
        self._longest_gap = _LONGEST_STREAM_GAP if is_stream else _LONGEST_GAP

    def find_gap(self, time: float, length: float, position: float) -> float:
        """Return the seconds of silence before a frame.

        Args:
            time: The frame's timestamp, in seconds.
            length: The frame's length, in seconds.
            position: Seconds of sound and silence before the frame, without this gap.
        """
        is_first = self._end is None
        jump = time - (self._base + position if self._end is None else self._end)
        self._end = time + length
        if (jump > self._longest_gap and not is_first) or jump < -_MOST_DRIFT:
            self._base = time - position
            return 0.0
        late = time - self._base - position
        is_gap = jump >= max(_FRAME_SHARE * length, _LEAST_JITTER)
        return max(late, 0.0) if is_gap or late >= _MOST_DRIFT else 0.0
