"""What comes after the voice: silence where the recording has it, loudness, the side of a stereo
recording, peaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from rvc_jax.audio import blocks as stream
from rvc_jax.audio.loudness import volume_gains
from rvc_jax.config import FEATURE_RATE, FRAMES_PER_SECOND
from rvc_jax.infer.recording import Recording

_PEAK = 0.99


@dataclasses.dataclass(frozen=True)
class ConvertedAudio:
    """A recording in another voice, on the disk if it is long."""

    rate: int
    transpose: float
    """Semitones by which the pitch was shifted."""
    _middle: np.ndarray
    _side: np.ndarray | None
    _gain: float

    @property
    def samples(self) -> int:
        return len(self._middle)

    @property
    def channels(self) -> int:
        return 1 if self._side is None else 2

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 [channels, samples], one after the other; the peak of all is at most 0.99."""
        for start, stop in stream.block_ranges(self.samples):
            yield np.float32(self._gain) * _channels(self._middle, self._side, start, stop)


def postprocess(
    wave: np.ndarray,
    recording: Recording,
    side: np.ndarray | None,
    volume_envelope: float,
    rate: int,
    transpose: float,
) -> ConvertedAudio:
    """wave: the gated voice [samples], which is changed; side: as long, of `recording.side`, or
    None."""
    if volume_envelope != 1 and len(wave):
        gains = volume_gains(recording.wave, FEATURE_RATE, wave, rate, volume_envelope)
        for start, stop in stream.block_ranges(len(wave)):
            louder = (stream.read_range(wave, start, stop) * gains(start, stop)).astype(
                np.float32
            )
            stream.write_range(wave, start, louder)
    peaks = (
        float(np.abs(_channels(wave, side, a, b)).max())
        for a, b in stream.block_ranges(len(wave))
    )
    peak = max(peaks, default=0.0)
    return ConvertedAudio(rate, transpose, wave, side, _PEAK / peak if peak > _PEAK else 1.0)


def apply_gate(
    blocks: Iterable[np.ndarray], gate: np.ndarray, rate: int
) -> Iterator[np.ndarray]:
    """Blocks [samples], one after the other, times the gate [frames] between whose values is drawn
    a line."""
    start = 0
    hop = rate / FRAMES_PER_SECOND
    for block in blocks:
        first = min(int(start / hop), len(gate) - 1)
        nearby = gate[first : first + int(len(block) / hop) + 3]
        points = np.arange(start, start + len(block)) / hop - first
        yield block * np.interp(points, np.arange(len(nearby)), nearby).astype(np.float32)
        start += len(block)


def fit_length(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Blocks [samples] of which there are `length` samples together: cut, or with zeros behind
    them."""
    missing = length
    for block in blocks:
        part = block[:missing]
        missing -= len(part)
        if len(part):
            yield part
    if missing:
        yield np.zeros(missing, np.float32)


def _channels(middle: np.ndarray, side: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    """[1, samples], or left and right [2, samples]."""
    part = stream.read_range(middle, start, stop)
    if side is None:
        return part[None]
    difference = stream.read_range(side, start, stop)
    return np.stack([part + difference, part - difference])
