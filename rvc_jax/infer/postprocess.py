"""What follows the voice: the silence gate, loudness, the side of a stereo recording, peaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from rvc_jax.audio.blocks import block_ranges, read_range, write_range
from rvc_jax.audio.loudness import volume_gains
from rvc_jax.config import FEATURE_RATE, FRAMES_PER_SECOND
from rvc_jax.infer.recording import Recording

_PEAK = 0.99


@dataclasses.dataclass(frozen=True)
class ConvertedAudio:
    """The result of a conversion; it is on the disk if it is long."""

    rate: int
    """Sample rate in Hz."""
    transpose: float
    """Semitones by which the pitch was shifted."""
    middle: np.ndarray
    """The voice: float32 [samples]."""
    side: np.ndarray | None = None
    """Half the difference of left and right: float32 [samples]; None if the result is mono."""
    gain: float = 1.0
    """Factor that brings the peak to at most 0.99."""
    notes: tuple[str, ...] = ()
    """Where little or nothing was found in the recording, and what to try."""

    @property
    def samples(self) -> int:
        """Length in samples, per channel."""
        return len(self.middle)

    @property
    def channels(self) -> int:
        """1, or 2 if the side of a stereo recording is kept."""
        return 1 if self.side is None else 2

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Consecutive blocks, float32 [channels, samples], with a peak of at most 0.99 in all."""
        for start, stop in block_ranges(self.samples):
            yield np.float32(self.gain) * _to_channels(self.middle, self.side, start, stop)

    def to_array(self) -> np.ndarray:
        """All samples: float32 [samples], or [2, samples] of a stereo result."""
        nothing = np.zeros((self.channels, 0), np.float32)
        channels = np.concatenate([nothing, *self.blocks()], axis=1)
        return channels if self.channels > 1 else channels[0]


def postprocess(
    wave: np.ndarray, recording: Recording, volume_envelope: float, rate: int, transpose: float
) -> ConvertedAudio:
    """Give the voice its loudness, add the recording's side, and limit the peak.

    Args:
      wave: The gated voice, float32 [samples]; it is changed in place.
      recording: What was converted.
      volume_envelope: 1 keeps the voice's own loudness, 0 follows the recording's.
      rate: Sample rate of `wave` and of the recording's side, in Hz.
      transpose: Semitones by which the pitch was shifted.
    """
    if volume_envelope != 1 and len(wave):
        gains = volume_gains(recording.wave, FEATURE_RATE, wave, rate, volume_envelope)
        for start, stop in block_ranges(len(wave)):
            block = read_range(wave, start, stop) * gains(start, stop)
            write_range(wave, start, block.astype(np.float32))
    peak = 0.0
    for start, stop in block_ranges(len(wave)):
        block = _to_channels(wave, recording.side, start, stop)
        peak = max(peak, float(np.abs(block).max()))
    gain = _PEAK / peak if peak > _PEAK else 1.0
    return ConvertedAudio(rate, transpose, wave, recording.side, gain)


def apply_gate(
    blocks: Iterable[np.ndarray], gate: np.ndarray, rate: int
) -> Iterator[np.ndarray]:
    """Multiply a wave by a gate whose values are interpolated linearly.

    Args:
      blocks: Consecutive blocks [samples].
      gate: [frames], 100 a second.
      rate: Sample rate of the blocks in Hz.
    """
    start = 0
    hop = rate / FRAMES_PER_SECOND
    for block in blocks:
        # Only the frames around the block are interpolated: gates are long.
        first = min(int(start / hop), len(gate) - 1)
        nearby = gate[first : first + int(len(block) / hop) + 3]
        points = np.arange(start, start + len(block)) / hop - first
        yield block * np.interp(points, np.arange(len(nearby)), nearby).astype(np.float32)
        start += len(block)


def fit_length(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Blocks [samples] cut, or followed by zeros, so that they hold `length` samples together."""
    missing = length
    for block in blocks:
        part = block[:missing]
        missing -= len(part)
        if len(part):
            yield part
    if missing:
        yield np.zeros(missing, np.float32)


def _to_channels(
    middle: np.ndarray, side: np.ndarray | None, start: int, stop: int
) -> np.ndarray:
    """Samples start..stop as [1, samples], or as left and right [2, samples]."""
    part = read_range(middle, start, stop)
    if side is None:
        return part[None]
    difference = read_range(side, start, stop)
    return np.stack([part + difference, part - difference])
