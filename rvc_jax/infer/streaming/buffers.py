"""Buffers of a stream: input audio, values by frame, and the silence gate.

They give the values that a whole recording would have, as far as it is known.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import scipy.ndimage

from rvc_jax.audio.blocks import Resampler, reflect_positions
from rvc_jax.audio.filters import high_pass_zero_phase
from rvc_jax.audio.loudness import rms
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.infer.recording import GATE_FADE, GATE_HOLD, MIN_SECONDS

FILTER_RINGING = 15
"""Seconds times Hz: divided by the corner of a high-pass filter, the time after which its ringing
is 120 dB down."""

_DELAY_BLOCKS = 500


@functools.lru_cache
def measure_resampler_delay(rate: int, quality: str) -> float:
    """Measure the longest delay of a resampler to 16 kHz, in seconds; it works in blocks.

    Args:
      rate: Input rate in Hz.
      quality: Name of the quality, as soxr has it.
    """
    if rate == FEATURE_RATE:
        return 0.0
    resampler = Resampler(rate, FEATURE_RATE, quality=quality)
    block = np.zeros(-(-rate // 1000), np.float32)
    given = 0
    longest = 0.0
    for number in range(1, _DELAY_BLOCKS + 1):
        given += len(resampler.push(block))
        longest = max(longest, number * len(block) / rate - given / FEATURE_RATE)
    return longest + len(block) / rate


class InputBuffer:
    """The input at 16 kHz, filtered when it is read. Old samples are dropped."""

    def __init__(self, corner_hz: float, gain: float):
        """corner_hz: of the high-pass filter, 0 is off; gain: factor of everything that is read."""
        self._corner = corner_hz
        self._gain = np.float32(gain)
        # Context on either side of what is filtered: no trace remains of where it was cut.
        self._edge = 0
        if corner_hz:
            self._edge = math.ceil(2 * FILTER_RINGING / corner_hz * FEATURE_RATE)
        self._wave = np.zeros(0, np.float32)
        self._first = 0
        self.ended = False

    @property
    def samples(self) -> int:
        """Samples appended so far."""
        return self._first + len(self._wave)

    @property
    def held(self) -> int:
        """Samples that are in memory."""
        return len(self._wave)

    def append(self, block: np.ndarray) -> None:
        """Add samples [samples] at 16 kHz."""
        self._wave = np.concatenate([self._wave, block])

    def end(self) -> None:
        """End the input; a very short one is padded with silence, as a recording is."""
        missing = round(MIN_SECONDS * FEATURE_RATE) - self.samples
        self._wave = np.pad(self._wave, (0, max(missing, 0)))
        self.ended = True

    def read(self, start: int, stop: int, known: int) -> np.ndarray:
        """Samples start..stop of a recording that ends after `known` samples.

        Returns: float32 [stop - start], filtered without delay and reflected beyond both ends.
        """
        positions = np.arange(start, stop)
        if start < 0 or stop > known:
            positions = reflect_positions(positions, known)
        first = int(positions.min())
        last = int(positions.max()) + 1
        begin = max(first - self._edge, 0)
        end = min(last + self._edge, known)
        raw = self._wave[begin - self._first : end - self._first]
        filtered = high_pass_zero_phase(raw, FEATURE_RATE, self._corner)
        inner = filtered[first - begin : last - begin]
        return inner[positions - first] * self._gain

    def drop_before(self, frame: int) -> None:
        """Drop what windows that begin at this frame or later do not need."""
        dropped = (frame - WINDOW_FRAMES) * FEATURE_HOP - self._edge - self._first
        if dropped > 0:
            self._wave = self._wave[dropped:].copy()
            self._first += dropped


class Timeline:
    """Values by frame. The newest are overwritten as more is known, the oldest are dropped."""

    def __init__(self, first: int, *width: int, dtype: Any = np.float32):
        """first: number of the first frame; width: shape of the values of a frame."""
        self._first = first
        self._values = np.zeros((0, *width), dtype)

    @property
    def first(self) -> int:
        """Number of the first frame that is held."""
        return self._first

    @property
    def end(self) -> int:
        """Number of the frame behind the last one."""
        return self._first + len(self._values)

    @property
    def held(self) -> int:
        """Frames that are in memory."""
        return len(self._values)

    def write(self, frame: int, values: np.ndarray) -> None:
        """Write values [frames, *width] from a frame on; all that was behind it is removed.

        frame: at most `end`. Frames that have been dropped stay dropped.
        """
        values = values[max(self._first - frame, 0) :]
        before = self._values[: max(frame - self._first, 0)]
        self._values = np.concatenate([before, values])

    def read(self, start: int, stop: int, length: int | None = None) -> np.ndarray:
        """Values of the frames start..stop, followed by zeros up to `length` frames."""
        values = self._values[start - self._first : stop - self._first]
        missing = (length or len(values)) - len(values)
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    def drop_before(self, frame: int) -> None:
        """Drop the frames before this one."""
        dropped = frame - self._first
        if dropped > 0:
            self._values = self._values[dropped:]
            self._first = frame


class SilenceGate:
    """The gate that `recording.Recording.compute_gate` computes, for a stream."""

    def __init__(self, silence_db: float):
        """silence_db: level in dB of full scale below which a frame is silence."""
        self._threshold = 10 ** (silence_db / 20)
        self._levels = Timeline(0)

    def measure(self, frame: int, audio: np.ndarray, gain: float = 1.0) -> None:
        """Measure the level of the input.

        Args:
          frame: Number of the frame that the audio begins with. Its level is known already, unless
            it is the first of all.
          audio: [samples] at 16 kHz.
          gain: Factor of the level.
        """
        levels = rms(audio, 2 * FEATURE_HOP, FEATURE_HOP)
        if gain != 1:
            levels = levels * np.float32(gain)
        skipped = 1 if frame else 0
        self._levels.write(frame + skipped, levels[skipped:])

    def read_audible(self, start: int, stop: int, end: int | None) -> np.ndarray:
        """Whether there is sound near the frames start..stop: bool [stop - start].

        end: number of frames of the recording, if it is known. Frames beyond the first and the last
        are reflected.
        """
        frames = np.abs(np.arange(start, stop))
        if end is not None:
            frames = np.where(frames < end, frames, np.abs(2 * (end - 1) - frames))
        audible = self._compute_audible()
        return audible[np.clip(frames - self._levels.first, 0, len(audible) - 1)]

    def read_gains(self, start: int, stop: int) -> np.ndarray:
        """Gains of the frames start..stop: float32 [stop - start], 0..1."""
        audible = self._compute_audible().astype(np.float32)
        gains = scipy.ndimage.uniform_filter1d(audible, 2 * GATE_FADE + 1)
        frames = np.arange(start, stop) - self._levels.first
        return gains[np.clip(frames, 0, len(gains) - 1)]

    def drop_before(self, frame: int) -> None:
        """Drop what this frame and later ones do not need."""
        self._levels.drop_before(frame - 2 * (GATE_HOLD + GATE_FADE))

    def _compute_audible(self) -> np.ndarray:
        levels = self._levels.read(self._levels.first, self._levels.end)
        return scipy.ndimage.maximum_filter1d(levels > self._threshold, 2 * GATE_HOLD + 1)
