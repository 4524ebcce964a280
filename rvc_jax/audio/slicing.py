"""Cuts a recording into slices: at silences, at equal lengths, or not at all.

Silences are found as by openvpi's audio slicer, which RVC uses; slices of equal length are those of
RVC's preparation. All speech is in some slice in every mode: other rooms decide which slices are
unusable, and say why.
"""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.loudness import rms
from rvc_jax.config import FRAMES_PER_SECOND, WINDOW_FRAMES, PrepareConfig


def slice_recording(
    wave: np.ndarray, rate: int, config: PrepareConfig, raising_gain: float = 1.0
) -> list[tuple[int, int]]:
    """Find the slices of a recording by `config.slicing`.

    Args:
      wave: [samples], finite.
      rate: in Hz.
      config: the settings.
      raising_gain: as for `find_speech`.

    Returns: (start, stop) in samples, ordered; none for a silent wave with "auto".
    """
    if config.slicing == "simple":
        return slice_evenly(len(wave), rate, config)
    if config.slicing == "auto":
        parts = find_speech(wave, rate, config, raising_gain)
    else:
        parts = [(0, len(wave))]
        if len(wave) * FRAMES_PER_SECOND <= WINDOW_FRAMES * rate:
            return parts
    slices = []
    for start, stop in parts:
        slices += split_evenly(start, stop, rate, config)
    return slices


def slice_evenly(samples: int, rate: int, config: PrepareConfig) -> list[tuple[int, int]]:
    """Divide samples into overlapping slices of equal length; the last may be shorter."""
    length = round(config.chunk_len * rate)
    overlap = length - _stride(rate, config)
    starts = range(0, max(samples - overlap, 1), length - overlap)
    return [(start, min(start + length, samples)) for start in starts]


def find_speech(
    wave: np.ndarray, rate: int, config: PrepareConfig, raising_gain: float = 1.0
) -> list[tuple[int, int]]:
    """Find the parts of a recording between silences; some silence is left at their ends.

    Args:
      wave: [samples], finite.
      rate: in Hz.
      config: the settings.
      raising_gain: factor by which a quiet recording is raised before its level is compared with
        the threshold (`audio.level.Level.raising_gain`).

    Returns: (start, stop) in samples, ordered and disjoint, with silence between them. A wave that
      is never above the threshold has no parts; one without a silence to cut at is one part.
    """
    hop = max(round(config.silence_hop * rate), 1)
    frame = min(round(config.silence_min_interval * rate), 4 * hop)
    levels = rms(wave, frame, hop)
    is_silent = levels < 10 ** (config.silence_db / 20) / raising_gain
    if is_silent.all():
        return []
    silences = _find_silences(levels, is_silent, rate / hop, config)
    starts = [0] + [last * hop for _, last in silences]
    stops = [first * hop for first, _ in silences] + [len(wave)]
    parts = zip(starts, stops, strict=True)
    return [(start, min(stop, len(wave))) for start, stop in parts if start < stop]


def split_evenly(
    start: int, stop: int, rate: int, config: PrepareConfig
) -> list[tuple[int, int]]:
    """Divide a part into overlapping slices; a rest of up to length + overlap stays whole.

    Args:
      start, stop: the part, in samples.
      rate: in Hz.

    Returns: (start, stop) in samples, ordered; together they cover the part.
    """
    length = round(config.chunk_len * rate)
    stride = _stride(rate, config)
    longest = round((config.chunk_len + config.overlap_len) * rate)
    slices = []
    while stop - start > longest:
        slices.append((start, start + length))
        start += stride
    if start < stop:
        slices.append((start, stop))
    return slices


def _stride(rate: int, config: PrepareConfig) -> int:
    return round((config.chunk_len - config.overlap_len) * rate)


def _find_silences(
    levels: np.ndarray, is_silent: np.ndarray, frames_per_second: float, config: PrepareConfig
) -> list[tuple[int, int]]:
    """Find the (first, last) frame of every silence to leave out.

    first == last cuts without leaving anything out.
    """
    max_kept = round(config.silence_max_kept * frames_per_second)
    min_length = round(config.silence_min_length * frames_per_second)
    min_interval = round(config.silence_min_interval * frames_per_second)
    edges = np.flatnonzero(np.diff(is_silent, prepend=False, append=False))
    silences: list[tuple[int, int]] = []
    part_start = 0
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end == len(levels):
            if end - begin >= min_interval:
                silences.append((_quietest(levels, begin, begin + max_kept + 1), end))
            continue
        is_leading = begin == 0 and end > max_kept
        is_short = end - begin < min_interval or end - part_start < min_length
        if is_short and not is_leading:
            continue
        first, last = _trim_silence(levels, begin, end, max_kept)
        silences.append((0 if begin == 0 else first, last))
        part_start = last
    return silences


def _trim_silence(levels: np.ndarray, begin: int, end: int, max_kept: int) -> tuple[int, int]:
    """Choose what to leave out of the silent frames begin..end-1.

    At most `max_kept` of them stay on either side.
    """
    if end - begin <= max_kept:
        quietest = _quietest(levels, begin, end)
        return quietest, quietest
    first = _quietest(levels, begin, begin + max_kept + 1)
    last = _quietest(levels, end - max_kept, end)
    if begin > 0 and end - begin <= 2 * max_kept:
        # Both sides reach beyond the middle of the silence.
        middle = _quietest(levels, end - max_kept, begin + max_kept + 1)
        return min(first, middle), max(last, middle)
    return first, last


def _quietest(levels: np.ndarray, begin: int, end: int) -> int:
    return begin + int(levels[begin:end].argmin())
