"""The same sound twice, whatever its gain, its coding or where it was cut.

Sub-fingerprints after Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR
2002): 32 bits for every 20 ms, each telling whether the difference of two neighbouring bands grew
or shrank.
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
_BAND = (300.0, 3000.0)  # what every coder and telephone leaves
_AUDIBLE_DB = 35.0
_MIN_FRAMES = 30
_MAX_BIT_ERRORS = 0.15
_NEIGHBORS = 7
_SAME_MOMENT = 0.15  # seconds


class Fingerprint(NamedTuple):
    """Of one slice."""

    bits: np.ndarray
    """uint32 [frames]."""
    audible: np.ndarray
    """bool [frames]: not more than 35 dB below the loudest; the bits of others are chance."""


class Repeat(NamedTuple):
    """Two slices with the same sound in them."""

    first: int
    second: int
    offset: int
    """Frame of the first slice at which the second one begins; negative if it begins earlier."""
    frames: int
    """How much of both is the same."""


def fingerprint(audio16k: np.ndarray) -> Fingerprint:
    """Fingerprint of a slice [samples] at 16 kHz: samples // 320 frames."""
    padded = np.pad(np.asarray(audio16k, np.float32), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.square(np.abs(scipy.fft.rfft(frames * _hann(), axis=1)))
    edges = np.geomspace(*_BAND, _BITS + 2) * _WINDOW / _RATE
    energy = np.add.reduceat(power, np.round(edges).astype(int), axis=1)[:, :-1]
    growth = np.diff(np.diff(energy, axis=1), axis=0)
    bits = np.packbits(growth > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    level = energy.sum(axis=1)[1:]
    return Fingerprint(bits, level > level.max(initial=0.0) * 10 ** (-_AUDIBLE_DB / 10))


def find_repeats(
    prints: Sequence[Fingerprint], files: Sequence[str], starts: Sequence[float]
) -> list[Repeat]:
    """Pairs of slices that share at least 0.6 s of the same sound, wherever it lies in them.

    Slices of one file that overlap in time do not count. Of a sound that is there more than twice,
    every slice is in some pair, but not every pair is found.

    Args:
      prints: of the slices.
      files, starts: which file a slice is from, and the second that it begins at.

    Returns: at most one for every two slices; `first` is the lower number.
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
    bits = np.concatenate([print_.bits[print_.audible] for print_ in prints])
    frames = np.concatenate([np.flatnonzero(print_.audible) for print_ in prints])
    slices = np.repeat(np.arange(len(prints)), [print_.audible.sum() for print_ in prints])
    order = np.argsort(bits, kind="stable")
    bits = bits[order]
    frames = frames[order]
    slices = slices[order]
    pairs = []
    for step in range(
        1, _NEIGHBORS + 1
    ):  # not all pairs of a value: a hum has the same value for hours
        here = np.flatnonzero((bits[:-step] == bits[step:]) & (slices[:-step] != slices[step:]))
        pairs.append(
            np.stack(
                [slices[here], slices[here + step], frames[here] - frames[here + step]], axis=1
            )
        )
    return [tuple(pair) for pair in np.unique(np.concatenate(pairs), axis=0).tolist()]


def _compare(first: Fingerprint, second: Fingerprint, offset: int) -> tuple[float, int]:
    """Share of bits that differ where both are audible, and the frames that overlap; 1 if those are
    too few."""
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
