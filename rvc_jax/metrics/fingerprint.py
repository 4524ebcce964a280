"""Finds the same sound in two slices, regardless of its gain, its encoding and where it was cut.

Sub-fingerprints after Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR
2002): 32 bits for every 20 ms, each stating whether the difference of two neighboring bands grew.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft

FRAMES_PER_SECOND = 50

_RATE = 16000
_HOP = _RATE // FRAMES_PER_SECOND
_WINDOW = 4096  # so long that a shift by half a hop changes few bits
_BITS = 32
_BAND = (300.0, 3000.0)  # Hz, which every codec and telephone keeps
_AUDIBLE_DB = 35.0
_MIN_FRAMES = 30
_MAX_BIT_ERRORS = 0.15
_NEIGHBORS = 7
_SAME_MOMENT = 0.15  # seconds


class Fingerprint(NamedTuple):
    """The sub-fingerprints of a slice."""

    bits: np.ndarray
    """uint32 [frames]."""
    audible: np.ndarray
    """bool [frames]: at most 35 dB below the loudest frame; the bits of others are random."""


class Repeat(NamedTuple):
    """Two slices that contain the same sound."""

    first: int
    second: int
    offset: int
    """Frame of the first slice at which the second one begins; negative if it begins earlier."""
    frames: int
    """Length of the common part."""


def fingerprint(audio16k: np.ndarray) -> Fingerprint:
    """Compute the fingerprint of a slice [samples] at 16 kHz: samples // 320 frames."""
    padded = np.pad(np.asarray(audio16k, np.float32), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    spectrum = np.asarray(scipy.fft.rfft(frames * _hann(), axis=1))
    power = np.square(np.abs(spectrum))
    edges = np.geomspace(*_BAND, _BITS + 2) * _WINDOW / _RATE
    energy = np.add.reduceat(power, np.round(edges).astype(int), axis=1)[:, :-1]
    growth = np.diff(np.diff(energy, axis=1), axis=0)
    bits = np.packbits(growth > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    level = energy.sum(axis=1)[1:]
    audible = level > level.max(initial=0.0) * 10 ** (-_AUDIBLE_DB / 10)
    return Fingerprint(bits, audible)


def find_repeats(
    prints: Sequence[Fingerprint], files: Sequence[str], starts: Sequence[float]
) -> list[Repeat]:
    """Find pairs of slices that share at least 0.6 s of the same sound at any position.

    Slices of one file that overlap in time do not count. If a sound occurs more than twice, every
    slice with it is in some pair, but not every pair is found.

    Args:
      prints: of the slices.
      files: the file of each slice.
      starts: the second of the file at which each slice begins.

    Returns: at most one pair for every two slices; `first` is the lower number.
    """
    seconds = np.asarray(starts, float)
    best: dict[tuple[int, int], tuple[float, Repeat]] = {}
    for first, second, offset in _candidates(prints):
        shift = seconds[first] + offset / FRAMES_PER_SECOND - seconds[second]
        if files[first] == files[second] and abs(shift) < _SAME_MOMENT:
            continue
        errors, frames = _compare(prints[first], prints[second], offset)
        known = best.get((first, second))
        if errors <= _MAX_BIT_ERRORS and (known is None or errors < known[0]):
            best[first, second] = errors, Repeat(first, second, offset, frames)
    return [repeat for _, (_, repeat) in sorted(best.items())]


def _candidates(prints: Sequence[Fingerprint]) -> list[tuple[int, int, int]]:
    """(first, second, offset) of slices that have one 32-bit value in common."""
    if not prints:
        return []
    bits = np.concatenate([item.bits[item.audible] for item in prints])
    frames = np.concatenate([np.flatnonzero(item.audible) for item in prints])
    slices = np.repeat(np.arange(len(prints)), [item.audible.sum() for item in prints])
    order = np.argsort(bits, kind="stable")
    bits = bits[order]
    frames = frames[order]
    slices = slices[order]
    pairs = []
    # Only near neighbors, not all pairs of a value: a hum has the same value for hours.
    for step in range(1, _NEIGHBORS + 1):
        is_equal = bits[:-step] == bits[step:]
        here = np.flatnonzero(is_equal & (slices[:-step] != slices[step:]))
        there = here + step
        offset = frames[here] - frames[there]
        pairs.append(np.stack([slices[here], slices[there], offset], axis=1))
    return [tuple(pair) for pair in np.unique(np.concatenate(pairs), axis=0).tolist()]


def _compare(first: Fingerprint, second: Fingerprint, offset: int) -> tuple[float, int]:
    """Share of bits that differ where both are audible, and the frames that overlap.

    The share is 1 if too few frames overlap.
    """
    begin = max(0, offset)
    end = min(len(first.bits), len(second.bits) + offset)
    theirs = slice(begin - offset, max(begin, end) - offset)
    both = first.audible[begin:end] & second.audible[theirs]
    if both.sum() < _MIN_FRAMES:
        return 1.0, 0
    different = np.bitwise_count(first.bits[begin:end][both] ^ second.bits[theirs][both])
    return float(different.mean() / _BITS), end - begin


@functools.cache
def _hann() -> np.ndarray:
    return np.hanning(_WINDOW).astype(np.float32)
