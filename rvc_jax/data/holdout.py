"""Which speech is kept out of training: whole time ranges, so that no window sits on both sides.

Pieces of speech are divided into atoms of about one window. The atoms of all files, one after the other, are the
timeline, and a few blocks of neighbouring atoms, spread evenly over it, are the hold-out. Cuts fall between atoms only:
no slice becomes a crumb, no sample is lost and none is on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rvc_jax.config import PrepareConfig

MAX_BLOCKS = 4
_MAX_SHARE = 0.2


class Piece(NamedTuple):
    """A range of samples of one file."""

    file: int
    start: int
    stop: int


class Atom(NamedTuple):
    """The smallest range that goes to one side as a whole."""

    piece: int
    """Number of the piece that it is a part of."""
    start: int
    stop: int


def target_seconds(speech: float, config: PrepareConfig) -> float:
    """Seconds of hold-out wanted out of so many seconds of speech."""
    wanted = min(max(config.holdout * speech, config.holdout_min), config.holdout_max)
    return min(wanted, _MAX_SHARE * speech)


def divide(pieces: Sequence[Piece], longest: int) -> list[Atom]:
    """Divide every piece into equal atoms of at most `longest` samples; shorter pieces are one atom."""
    atoms = []
    for number, (_, start, stop) in enumerate(pieces):
        parts = max(1, math.ceil((stop - start) / longest))
        edges = [start + (stop - start) * part // parts for part in range(parts + 1)]
        atoms += [Atom(number, a, b) for a, b in zip(edges, edges[1:], strict=False)]
    return atoms


def choose(lengths: Sequence[int], target: float, block: float) -> np.ndarray:
    """Choose the atoms of the hold-out.

    Args:
      lengths: of the atoms of the timeline, in samples.
      target: samples wanted, at most a fifth of all.
      block: samples that a block has at least, roughly.

    Returns: bool [atoms]. The sum differs from the target by half an atom at most, except that out of two or more atoms
      one (the shortest) is chosen even if it is too long, unless the target is 0.
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
        atom = int(np.abs(edges - begin).argmin())
        while atom < len(lengths) and taken + lengths[atom] / 2 <= goal:
            if not held[atom]:
                held[atom] = True
                taken += lengths[atom]
            atom += 1
    if not held.any():
        held[np.argmin(lengths)] = True
    return held


def join(pieces: Sequence[Piece], atoms: Sequence[Atom], chosen: Sequence[bool]) -> list[Piece]:
    """The chosen atoms as pieces again; neighbours out of one piece become one."""
    joined: list[Piece] = []
    previous = None
    for atom, is_chosen in zip(atoms, chosen, strict=True):
        if is_chosen and previous is not None and previous.piece == atom.piece:
            joined[-1] = joined[-1]._replace(stop=atom.stop)
        elif is_chosen:
            joined.append(Piece(pieces[atom.piece].file, atom.start, atom.stop))
        previous = atom if is_chosen else None
    return joined
