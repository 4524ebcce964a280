"""Where a recording is cut: pieces between silences, and windows of a piece.

The pieces are those of openvpi's audio slicer, which RVC uses; the windows are those of RVC's preparation.
"""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.loudness import rms
from rvc_jax.config import PrepareConfig


def speech_pieces(wave: np.ndarray, rate: int, config: PrepareConfig) -> list[tuple[int, int]]:
    """Find the pieces of a recording between silences, with some silence left at their ends.

    Args:
      wave: [samples], finite.
      rate: sample rate in Hz.

    Returns: (start, stop) in samples, ordered and disjoint. What lies between them is silence. A wave with nothing
      above the threshold has no pieces; one without a silence to cut at is one piece.
    """
    hop = max(round(config.silence_hop * rate), 1)
    frame = min(round(config.silence_min_interval * rate), 4 * hop)
    levels = rms(wave, frame, hop)
    silent = levels < 10 ** (config.silence_db / 20)
    if silent.all():
        return []
    cuts = _cuts(levels, silent, rate / hop, config)
    starts = [0] + [after * hop for _, after in cuts]
    stops = [before * hop for before, _ in cuts] + [len(wave)]
    return [(start, min(stop, len(wave))) for start, stop in zip(starts, stops, strict=True) if start < stop]


def windows(start: int, stop: int, rate: int, config: PrepareConfig) -> list[tuple[int, int]]:
    """Divide a piece into overlapping windows; the rest, up to window + overlap long, is kept whole.

    Args:
      start, stop: the piece, in samples.
      rate: sample rate in Hz.

    Returns: (start, stop) in samples, ordered; together they cover the piece.
    """
    length = round(config.window * rate)
    stride = round((config.window - config.overlap) * rate)
    longest = round((config.window + config.overlap) * rate)
    result = []
    while stop - start > longest:
        result.append((start, start + length))
        start += stride
    return [*result, (start, stop)] if start < stop else result


def _cuts(
    levels: np.ndarray, silent: np.ndarray, frames_per_second: float, config: PrepareConfig
) -> list[tuple[int, int]]:
    """The (first, last) frame of every stretch to leave out; first == last cuts without leaving anything out."""
    kept = round(config.silence_max_kept * frames_per_second)
    min_length = round(config.silence_min_length * frames_per_second)
    min_interval = round(config.silence_min_interval * frames_per_second)
    edges = np.flatnonzero(np.diff(silent, prepend=False, append=False))
    cuts: list[tuple[int, int]] = []
    piece_start = 0
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end == len(levels):
            if end - begin >= min_interval:
                cuts.append((_quietest(levels, begin, begin + kept + 1), end))
            continue
        leading = begin == 0 and end > kept
        if not leading and (end - begin < min_interval or end - piece_start < min_length):
            continue
        first, last = _cut_in_silence(levels, begin, end, kept)
        cuts.append((0 if begin == 0 else first, last))
        piece_start = last
    return cuts


def _cut_in_silence(levels: np.ndarray, begin: int, end: int, kept: int) -> tuple[int, int]:
    """What to leave out of the silent frames begin..end-1, so that at most `kept` of them stay on either side."""
    if end - begin <= kept:
        quietest = _quietest(levels, begin, end)
        return quietest, quietest
    first = _quietest(levels, begin, begin + kept + 1)
    last = _quietest(levels, end - kept, end)
    if begin > 0 and end - begin <= 2 * kept:  # both sides reach over the middle of the silence
        middle = _quietest(levels, end - kept, begin + kept + 1)
        return min(first, middle), max(last, middle)
    return first, last


def _quietest(levels: np.ndarray, begin: int, end: int) -> int:
    return begin + int(levels[begin:end].argmin())
