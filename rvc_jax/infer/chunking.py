"""How a recording of any length becomes pieces of a few fixed shapes, and how the pieces become one
again.

Frames are counted from the recording's first; the reflected margin before it has negative numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rvc_jax.config import WINDOW_FRAMES

CHUNK_FRAMES = (WINDOW_FRAMES, 4 * WINDOW_FRAMES)
"""Frames that the voice model speaks at once: one shape for short recordings and remainders, one
for long ones."""

CONTEXT_FRAMES = 48
"""Frames at either end of a chunk that are only heard out: more than the convolutions of the model
reach (40)."""

FADE_FRAMES = 2
"""Frames before and after a join over which one chunk is faded into the next."""

_MIN_FILL = 0.75


class Chunk(NamedTuple):
    """A piece of a recording, in frames."""

    frames: int
    """Length, context included."""
    first: int
    """Number of its first frame, context included."""
    begin: int
    """The frames that are kept of it: begin..end."""
    end: int


def plan_chunks(frames: int, shapes: Sequence[int] = CHUNK_FRAMES) -> list[Chunk]:
    """Chunks whose kept frames are 0..frames, without gap or overlap.

    frames: length of the recording, even. The longest shape that is filled to three quarters is
    taken, else the shortest; the last chunk is moved back rather than left partly empty, so that
    chunks need what lies outside the recording only for their context, or where the whole recording
    is shorter than a chunk.
    """
    chunks: list[Chunk] = []
    begin = 0
    while begin < frames:
        shape = max(
            (s for s in shapes if _MIN_FILL * _inner_frames(s) <= frames - begin),
            default=min(shapes),
        )
        start = max(min(begin, frames - _inner_frames(shape)), 0)
        end = min(start + _inner_frames(shape), frames)
        chunks.append(Chunk(shape, start - CONTEXT_FRAMES, begin, end))
        begin = end
    return chunks


def join(
    waves: Iterable[np.ndarray | None], chunks: Sequence[Chunk], hop: int
) -> Iterator[np.ndarray]:
    """The kept parts of the chunks' waves [chunk.frames * hop] (None is silence) as one, float32 in
    blocks."""
    frames = chunks[-1].end
    rise = (np.arange(2 * FADE_FRAMES * hop, dtype=np.float32) + 0.5) / (2 * FADE_FRAMES * hop)
    fading = None
    for wave, chunk in zip(waves, chunks, strict=True):
        begin = max(chunk.begin - FADE_FRAMES, 0)
        end = min(chunk.end + FADE_FRAMES, frames)
        part = np.zeros((end - begin) * hop, np.float32)
        if wave is not None:
            part += wave[(begin - chunk.first) * hop : (end - chunk.first) * hop]
        if fading is not None:
            part[: len(rise)] = part[: len(rise)] * rise + fading
        if chunk.end < frames:
            fading = part[-len(rise) :] * rise[::-1]
            part = part[: -len(rise)]
        yield part


class LazyRows:
    """Rows [channels] of a long table that are computed where they are asked for, a block at a
    time, and forgotten.

    They are asked for from the beginning towards the end, with steps back that are shorter than
    what was asked for.
    """

    def __init__(self, compute: Callable[[int], np.ndarray], size: int, count: int):
        """compute: the rows [size, channels] of the block of that number; count: of rows, those
        behind it are zeros."""
        self._compute = compute
        self._size = size
        self._count = count
        self._blocks: dict[int, np.ndarray] = {}

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows start..stop, start not below 0: [stop - start, channels]."""
        last = min(stop, self._count)
        numbers = range(
            start // self._size, max(-(-last // self._size), start // self._size + 1)
        )
        self._blocks = {
            number: block for number, block in self._blocks.items() if number >= numbers[0]
        }
        for number in numbers:
            if number not in self._blocks:
                self._blocks[number] = self._compute(number)
        first = numbers[0] * self._size
        rows = np.concatenate([self._blocks[number] for number in numbers])[
            start - first : last - first
        ]
        return np.pad(rows, ((0, stop - start - len(rows)), (0, 0)))


def _inner_frames(shape: int) -> int:
    return shape - 2 * CONTEXT_FRAMES
