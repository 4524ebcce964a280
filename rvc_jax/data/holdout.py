"""Which speech is kept out of training: whole time ranges, so that no sample is on both sides.

The slices of a speaker, one file after the other, are the timeline, and a few blocks of
neighbouring slices, spread evenly over it, are the hold-out. Slices overlap: what a training slice
shares with the hold-out is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rvc_jax.config import PrepareConfig

MAX_BLOCKS = 4
_MAX_SHARE = 0.2


def target_holdout_seconds(speech: float, config: PrepareConfig) -> float:
    """Seconds of hold-out wanted out of so many seconds of speech."""
    wanted = min(max(config.holdout * speech, config.holdout_min), config.holdout_max)
    return min(wanted, _MAX_SHARE * speech)


def choose_holdout(lengths: Sequence[float], target: float, block: float) -> np.ndarray:
    """Choose the slices of the hold-out.

    Args:
      lengths: of the slices of the timeline, without what they share with the one before.
      target: length wanted, at most a fifth of all.
      block: length that a block has at least, roughly.

    Returns: bool [slices]. The sum differs from the target by half a slice at most, except that out
    of two or more
      slices one (the shortest) is chosen even if it is too long, unless the target is 0.
    """
    held = np.zeros(len(lengths), bool)
    if len(lengths) < 2 or target <= 0:
        return held
    edges = np.cumsum([0, *lengths])
    blocks = int(min(max(target // block, 1), MAX_BLOCKS))
    taken = 0
    for number in range(blocks):
        begin = edges[-1] * (number + 0.5) / blocks - target / blocks / 2
        goal = target * (number + 1) / blocks
        chosen = int(np.abs(edges - begin).argmin())
        while chosen < len(lengths) and taken + lengths[chosen] / 2 <= goal:
            if not held[chosen]:
                held[chosen] = True
                taken += lengths[chosen]
            chosen += 1
    if not held.any():
        held[np.argmin(lengths)] = True
    return held


def find_longest_free_range(
    start: int, stop: int, held: Sequence[tuple[int, int]], step: int
) -> tuple[int, int]:
    """The longest part of a range that is free of other ranges.

    Args:
      start, stop: the range.
      held: (start, stop) of the others, in any order.
      step: the part begins a multiple of this after `start`, and is a multiple of it long unless it
          ends at `stop`.

    Returns: (start, stop); (start, start) if nothing is left.
    """
    inside = sorted((max(a, start), min(b, stop)) for a, b in held if a < stop and b > start)
    best = (start, start)
    begin = start
    for a, b in [*inside, (stop, stop)]:
        end = a if a == stop else begin + max(a - begin, 0) // step * step
        if end - begin > best[1] - best[0]:
            best = (begin, end)
        begin = max(begin, start + -(-(b - start) // step) * step)
    return best
