"""Sound that is still coming in: brought to 16 kHz, filtered, and read in stretches as a whole
recording is."""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.ndimage

from rvc_jax.audio.blocks import Resampler
from rvc_jax.audio.filters import high_pass_zero_phase
from rvc_jax.audio.loudness import rms
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.infer.recording import GATE_FADE, GATE_HOLD, MIN_SECONDS

FILTER_RINGING = 15
"""Seconds times Hz: how long a high-pass filter rings until it is 120 dB down, by its corner."""

_DELAY_BLOCKS = 500


@functools.lru_cache
def measure_resampler_delay(rate: int, quality: str) -> float:
    """Seconds of sound at most that a resampler to 16 kHz holds back; it works in blocks of its
    own. Measured."""
    if rate == FEATURE_RATE:
        return 0.0
    resampler = Resampler(rate, FEATURE_RATE, quality=quality)
    given = 0
    most = 0.0
    block = np.zeros(-(-rate // 1000), np.float32)
    for number in range(1, _DELAY_BLOCKS + 1):
        given += len(resampler.push(block))
        most = max(most, number * len(block) / rate - given / FEATURE_RATE)
    return most + len(block) / rate


class InputBuffer:
    """A recording at 16 kHz as far as it has been heard, without what nobody asks for any more."""

    def __init__(self, corner_hz: float, gain: float):
        """corner_hz: of the high-pass filter, 0 is none; gain: of everything that is read."""
        self._corner = corner_hz
        self._gain = np.float32(gain)
        self._edge = (
            math.ceil(2 * FILTER_RINGING / corner_hz * FEATURE_RATE) if corner_hz else 0
        )
        self._kept = np.zeros(0, np.float32)
        self._first = 0
        self.ended = False

    @property
    def samples(self) -> int:
        """Heard so far."""
        return self._first + len(self._kept)

    def append(self, block: np.ndarray) -> None:
        self._kept = np.concatenate([self._kept, block])

    def end(self) -> None:
        """Nothing more will come; what is very short gets silence behind it, as a recording
        does."""
        missing = round(MIN_SECONDS * FEATURE_RATE) - self.samples
        self._kept = np.pad(self._kept, (0, max(missing, 0)))
        self.ended = True

    def read(self, start: int, stop: int, known: int) -> np.ndarray:
        """Samples start..stop as if the recording had `known` of them: filtered without delay and
        reflected beyond."""
        places = np.arange(start, stop)
        if start < 0 or stop > known:
            period = 2 * (known - 1)
            places = np.mod(places, period)
            places = np.minimum(places, period - places)
        first = int(places.min())
        last = int(places.max()) + 1
        begin = max(first - self._edge, 0)
        raw = self._kept[begin - self._first : min(last + self._edge, known) - self._first]
        filtered = high_pass_zero_phase(raw, FEATURE_RATE, self._corner)[
            first - begin : last - begin
        ]
        return filtered[places - first] * self._gain

    def forget(self, frame: int) -> None:
        """Windows that begin before this frame will not be read again."""
        cut = (frame - WINDOW_FRAMES) * FEATURE_HOP - self._edge - self._first
        if cut > 0:
            self._kept = self._kept[cut:].copy()
            self._first = self._first + cut


class Timeline:
    """Values by frame, of which the newest are written again as more is known, and the oldest are
    forgotten."""

    def __init__(self, first: int, *width: int, dtype: type = np.float32):
        """first: number of the frame that is written first; width: of a frame's values."""
        self._first = first
        self._values = np.zeros((0, *width), dtype)

    @property
    def first(self) -> int:
        return self._first

    @property
    def end(self) -> int:
        return self._first + len(self._values)

    def write(self, frame: int, values: np.ndarray) -> None:
        """From this frame on; whatever was behind is gone, what is forgotten stays so. frame: at
        most `end`."""
        values = values[max(self._first - frame, 0) :]
        self._values = np.concatenate([self._values[: max(frame - self._first, 0)], values])

    def read(self, start: int, stop: int, length: int | None = None) -> np.ndarray:
        """The frames start..stop, with zeros behind them up to `length`."""
        values = self._values[start - self._first : stop - self._first]
        missing = (length or len(values)) - len(values)
        return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))

    def forget(self, frame: int) -> None:
        """What is before this frame."""
        cut = frame - self._first
        if cut > 0:
            self._values = self._values[cut:]
            self._first = frame


class SilenceGate:
    """Where something is heard, and the gate that lets it through; see `recording.Recording`."""

    def __init__(self, silence_db: float):
        self._least = 10 ** (silence_db / 20)
        self._levels = Timeline(0)

    def measure(self, frame: int, audio: np.ndarray) -> None:
        """audio: from the sample of that frame on; unless it is the first of all, its level is
        known already."""
        levels = rms(audio, 2 * FEATURE_HOP, FEATURE_HOP)
        skipped = 1 if frame else 0
        self._levels.write(frame + skipped, levels[skipped:])

    def heard(self, start: int, stop: int, end: int | None) -> np.ndarray:
        """bool [stop - start], by frame; reflected beyond the first and the last of all, `end`, if
        that is known."""
        frames = np.abs(np.arange(start, stop))
        if end is not None:
            frames = np.where(frames < end, frames, np.abs(2 * (end - 1) - frames))
        heard = self._heard()
        return heard[np.clip(frames - self._levels.first, 0, len(heard) - 1)]

    def gate(self, start: int, stop: int) -> np.ndarray:
        """float32 [stop - start] from 0 to 1, by frame."""
        gate = scipy.ndimage.uniform_filter1d(
            self._heard().astype(np.float32), 2 * GATE_FADE + 1
        )
        return gate[np.clip(np.arange(start, stop) - self._levels.first, 0, len(gate) - 1)]

    def forget(self, frame: int) -> None:
        """What is before this frame and is not needed for it."""
        self._levels.forget(frame - 2 * (GATE_HOLD + GATE_FADE))

    def _heard(self) -> np.ndarray:
        levels = self._levels.read(self._levels.first, self._levels.end)
        return scipy.ndimage.maximum_filter1d(levels > self._least, 2 * GATE_HOLD + 1)
