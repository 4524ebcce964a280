"""Where a recording is cut into slices: at silences, into windows of equal length, or not at all.

The pieces between silences are those of openvpi's audio slicer, which RVC uses; their windows are
those of RVC's preparation. Nothing is lost in any mode: what is no use is for others to tell, and
to say why.
"""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.loudness import rms
from rvc_jax.config import FRAMES_PER_SECOND, WINDOW_FRAMES, PrepareConfig


def slice_recording(
    wave: np.ndarray, rate: int, config: PrepareConfig
) -> list[tuple[int, int]]:
    """Cut a recording as `config.slicing` says.

    Args:
      wave: [samples], finite.
      rate: sample rate in Hz.

    Returns: (start, stop) in samples, ordered; a wave that is all silence has none with "auto".
    """
    if config.slicing == "simple":
        return slice_evenly(len(wave), rate, config)
    if config.slicing == "auto":
        pieces = find_speech(wave, rate, config)
    else:
        pieces = [(0, len(wave))]
        if len(wave) * FRAMES_PER_SECOND <= WINDOW_FRAMES * rate:
            return pieces
    return [
        window for start, stop in pieces for window in split_evenly(start, stop, rate, config)
    ]


def slice_evenly(samples: int, rate: int, config: PrepareConfig) -> list[tuple[int, int]]:
    """Windows of equal length over so many samples; the last one may be shorter."""
    length = round(config.chunk_len * rate)
    overlap = length - _stride(rate, config)
    starts = range(0, max(samples - overlap, 1), length - overlap)
    return [(start, min(start + length, samples)) for start in starts]


def find_speech(wave: np.ndarray, rate: int, config: PrepareConfig) -> list[tuple[int, int]]:
    """Find the pieces of a recording between silences, with some silence left at their ends.

    Args:
      wave: [samples], finite.
      rate: sample rate in Hz.

    Returns: (start, stop) in samples, ordered and disjoint. What lies between them is silence. A
    wave with nothing
      above the threshold has no pieces; one without a silence to cut at is one piece.
    """
    hop = max(round(config.silence_hop * rate), 1)
    frame = min(round(config.silence_min_interval * rate), 4 * hop)
    levels = rms(wave, frame, hop)
    silent = levels < 10 ** (config.silence_db / 20)
    if silent.all():
        return []
    cuts = _find_silences(levels, silent, rate / hop, config)
    starts = [0] + [after * hop for _, after in cuts]
    stops = [before * hop for before, _ in cuts] + [len(wave)]
    return [
        (start, min(stop, len(wave)))
        for start, stop in zip(starts, stops, strict=True)
        if start < stop
    ]


def split_evenly(
    start: int, stop: int, rate: int, config: PrepareConfig
) -> list[tuple[int, int]]:
    """Divide a piece into overlapping windows; the rest, up to window + overlap long, is kept
    whole.

    Args:
      start, stop: the piece, in samples.
      rate: sample rate in Hz.

    Returns: (start, stop) in samples, ordered; together they cover the piece.
    """
    length = round(config.chunk_len * rate)
    stride = _stride(rate, config)
    longest = round((config.chunk_len + config.overlap_len) * rate)
    result = []
    while stop - start > longest:
        result.append((start, start + length))
        start += stride
    return [*result, (start, stop)] if start < stop else result


def _stride(rate: int, config: PrepareConfig) -> int:
    return round((config.chunk_len - config.overlap_len) * rate)


def _find_silences(
    levels: np.ndarray, silent: np.ndarray, frames_per_second: float, config: PrepareConfig
) -> list[tuple[int, int]]:
    """The (first, last) frame of every stretch to leave out; first == last cuts without leaving
    anything out."""
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
        first, last = _trim_silence(levels, begin, end, kept)
        cuts.append((0 if begin == 0 else first, last))
        piece_start = last
    return cuts


def _trim_silence(levels: np.ndarray, begin: int, end: int, kept: int) -> tuple[int, int]:
    """What to leave out of the silent frames begin..end-1, so that at most `kept` of them stay on
    either side."""
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
