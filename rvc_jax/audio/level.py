"""How loud the speech of a recording is, so that no threshold cuts a quiet one.

Thresholds were set for recordings of usual level. A recording whose speech peaks below
`NORMAL_PEAK` is measured as if it were raised to that peak; one below `SILENT_PEAK` is silent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from rvc_jax.audio.blocks import BLOCK, block_ranges, read_range

NORMAL_PEAK = 0.1
"""Peak, -20 dB of full scale, from which on thresholds hold as they stand."""

SILENT_PEAK = 1e-4
"""Peak, -80 dB of full scale, below which a recording is silent: three steps of 16-bit samples, the
size of dither."""

_FRAMES_PER_SECOND = 100
_LOUD_SHARE = 0.1
_LOUD_FRAMES = 100
_RARE_SHARE = 0.003
_EXCERPT_FRAMES = 800
_MAX_CREST = 10 ** (12 / 20)
"""From the level of the loudest second to the highest peak, speech has up to 6 dB; more than 12 dB
is a cough, a slammed door or a click."""


@dataclasses.dataclass(frozen=True)
class Level:
    """Levels of a recording; full scale is 1."""

    peak: float
    """The largest sample."""
    speech: float
    """The peak of what lasts: the same, but for short sounds that stand out of everything else."""
    is_noise: bool = False
    """Whether it is quiet, and speech was looked for and not found."""

    @property
    def is_silent(self) -> bool:
        """Whether nothing that lasts is above `SILENT_PEAK`."""
        return self.speech < SILENT_PEAK

    @property
    def raising_gain(self) -> float:
        """Factor that brings the speech of a quiet recording to `NORMAL_PEAK`; 1 for others."""
        if self.is_silent or self.is_noise:
            return 1.0
        return max(1.0, NORMAL_PEAK / self.speech)


FULL_SCALE = Level(1.0, 1.0)
"""The level of speech that uses the whole range."""


def measure_level(
    wave: np.ndarray,
    rate: int,
    has_speech: Callable[[np.ndarray, int], bool] = lambda wave, rate: True,
    check_quiet: bool = False,
) -> Level:
    """Measure a recording [samples], in memory or on the disk, at a rate in Hz.

    What lasts is what is as loud for a second, or a tenth of a short recording, and 0.3 % of a long
    one: a cough or a slammed door does not. Where such a sound stands out, it may also be a single
    word amid noise: speech is looked for in the rest.

    Args:
      wave: the recording.
      rate: in Hz.
      has_speech: whether some seconds of a wave, which are raised, hold speech.
      check_quiet: also look for speech in a quiet recording, which may be noise alone.
    """
    frame = max(rate // _FRAMES_PER_SECOND, 1)
    parts = [np.zeros(0, np.float32)]
    for start, stop in block_ranges(len(wave), max(BLOCK // frame, 1) * frame):
        heights = np.abs(read_range(wave, start, stop))
        parts.append(np.maximum.reduceat(heights, np.arange(0, len(heights), frame)))
    peaks = np.concatenate(parts)
    peak = float(peaks.max(initial=0.0))
    sounding = peaks[peaks >= SILENT_PEAK]
    if not len(sounding):
        return Level(peak, peak)
    lasting = min(max(round(_LOUD_SHARE * len(sounding)), 1), _LOUD_FRAMES)
    lasting = min(lasting + round(_RARE_SHARE * len(sounding)), len(sounding))
    loud = float(np.partition(sounding, len(sounding) - lasting)[len(sounding) - lasting])
    speech = min(peak, loud * _MAX_CREST)
    if speech < peak and not has_speech(_raise_around(wave, peaks, frame, loud), rate):
        speech = peak
    if check_quiet and SILENT_PEAK <= speech < NORMAL_PEAK:
        is_noise = not has_speech(_raise_around(wave, peaks, frame, loud), rate)
        return Level(peak, speech, is_noise)
    return Level(peak, speech)


def _raise_around(wave: np.ndarray, peaks: np.ndarray, frame: int, loud: float) -> np.ndarray:
    """Return some seconds around a frame of a given peak, raised, without what is far louder."""
    middle = int(np.flatnonzero(peaks == np.float32(loud))[0])
    first = max(middle - _EXCERPT_FRAMES // 2, 0)
    last = min(first + _EXCERPT_FRAMES, len(peaks))
    excerpt = np.array(read_range(wave, first * frame, last * frame))
    is_louder = np.repeat(peaks[first:last] > loud * _MAX_CREST, frame)[: len(excerpt)]
    excerpt[is_louder] = 0
    return excerpt * np.float32(NORMAL_PEAK / loud)
