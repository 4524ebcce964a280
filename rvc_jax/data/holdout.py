"""Choose the hold-out: whole time ranges of speech, so that no sample is on both sides.

The slices of a speaker, one file after the other, are a timeline. The hold-out is a few blocks of
neighboring slices, spread evenly over it. Slices overlap, so what a training slice shares with the
hold-out is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rvc_jax.config import PrepareConfig

MAX_BLOCKS = 4
_MAX_SHARE = 0.2


def target_holdout_seconds(speech: float, config: PrepareConfig) -> float:
    """Return the wanted seconds of hold-out for this many seconds of speech."""
    wanted = min(max(config.holdout * speech, config.holdout_min), config.holdout_max)
    return min(wanted, _MAX_SHARE * speech)


def choose_holdout(lengths: Sequence[float], target: float, block: float) -> np.ndarray:
    """Choose the slices of the hold-out.

    Args:
        lengths: Lengths of the slices on the timeline, without what they share with the one before.
        target: Wanted length, at most a fifth of all.
        block: Approximate minimum length of a block.

    Returns:
        bool [slices]. The chosen length differs from the target by half a slice at most; but of two
        or more slices at least one (the shortest) is chosen, unless the target is 0.
    """
    held = np.zeros(len(lengths), bool)
    if len(lengths) < 2 or target <= 0:
        return held
    edges = np.cumsum([0, *lengths])
    blocks = int(min(max(target // block, 1), MAX_BLOCKS))
    taken = 0
    for number in range(blocks):
        # Each block is centered in its share of the timeline. What earlier blocks took too little
        # or too much, later ones make up for.
        begin = edges[-1] * (number + 0.5) / blocks - target / blocks / 2
        goal = target * (number + 1) / blocks
        current = int(np.abs(edges - begin).argmin())
        while current < len(lengths) and taken + lengths[current] / 2 <= goal:
            if not held[current]:
                held[current] = True
                taken += lengths[current]
            current += 1
    if not held.any():
        held[np.argmin(lengths)] = True
    return held


def find_longest_free_range(
    start: int, stop: int, taken: Sequence[tuple[int, int]], step: int
) -> tuple[int, int]:
    """Find the longest part of a range that is free of other ranges.

    Args:
        start: Begin of the range.
        stop: End of the range.
        taken: (start, stop) of the other ranges, in any order.
        step: The part begins a multiple of this after `start`. Its length is a multiple, too,
            unless it ends at `stop`.

    Returns:
        (start, stop) of the part; (start, start) if nothing is free.
    """
    inside = sorted((max(a, start), min(b, stop)) for a, b in taken if a < stop and b > start)
    best = (start, start)
    begin = start
    for a, b in [*inside, (stop, stop)]:
        end = a if a == stop else begin + max(a - begin, 0) // step * step
        if end - begin > best[1] - best[0]:
            best = (begin, end)
        begin = max(begin, start + -(-(b - start) // step) * step)
    return best
