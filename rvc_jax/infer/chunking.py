"""Recordings of any length in chunks of a few fixed shapes, and the chunks joined again.

Frames are counted from the first of the recording; those of the reflected margin before it are
negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rvc_jax.config import WINDOW_FRAMES

CHUNK_FRAMES = (WINDOW_FRAMES, 4 * WINDOW_FRAMES)
"""Lengths that the voice is compiled for: one for short recordings and remainders, one for long
recordings."""

CONTEXT_FRAMES = 48
"""Frames at either end of a chunk that are rendered and thrown away. The convolutions of the model
depend on 40 frames on either side."""

FADE_FRAMES = 2
"""Frames before and after a join over which one chunk is faded into the next."""

_MIN_FILL = 0.75


class Chunk(NamedTuple):
    """A part of a recording that is rendered at once, in frames."""

    frames: int
    """Length, including the context at both ends."""
    first: int
    """Number of the first frame, including the context."""
    begin: int
    """First frame of the output that this chunk gives."""
    end: int
    """End of that output, exclusive."""


def plan_chunks(frames: int, shapes: Sequence[int] = CHUNK_FRAMES) -> list[Chunk]:
    """Divide a recording into chunks whose outputs cover 0..frames without gap or overlap.

    The longest shape that is filled to three quarters is taken, else the shortest. The last chunk
    is moved back rather than left partly empty, so that frames outside the recording serve as
    context only, unless the whole recording is shorter than a chunk.

    Args:
      frames: Length of the recording, even.
      shapes: Lengths of chunks, even, each longer than twice CONTEXT_FRAMES.
    """
    chunks: list[Chunk] = []
    begin = 0
    while begin < frames:
        rest = frames - begin
        filled = [shape for shape in shapes if _MIN_FILL * _inner_frames(shape) <= rest]
        shape = max(filled, default=min(shapes))
        inner = _inner_frames(shape)
        start = max(min(begin, frames - inner), 0)
        end = min(start + inner, frames)
        chunks.append(Chunk(shape, start - CONTEXT_FRAMES, begin, end))
        begin = end
    return chunks


def join_chunks(
    waves: Iterable[np.ndarray | None], chunks: Sequence[Chunk], hop: int
) -> Iterator[np.ndarray]:
    """Join the outputs of chunks, with a crossfade over each join.

    Args:
      waves: The wave of each chunk, float32 [chunk.frames * hop]; None is silence.
      chunks: As `plan_chunks` returns them.
      hop: Samples per frame.

    Returns: consecutive float32 blocks [samples], together chunks[-1].end * hop samples.
    """
    frames = chunks[-1].end
    fade = 2 * FADE_FRAMES * hop
    tail = None
    for wave, chunk in zip(waves, chunks, strict=True):
        begin = max(chunk.begin - FADE_FRAMES, 0)
        end = min(chunk.end + FADE_FRAMES, frames)
        part = np.zeros((end - begin) * hop, np.float32)
        if wave is not None:
            part += wave[(begin - chunk.first) * hop : (end - chunk.first) * hop]
        if tail is not None:
            part[:fade] = crossfade(tail, part[:fade])
        if chunk.end < frames:
            tail = part[-fade:]
            part = part[:-fade]
        yield part


def crossfade(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Fade from one wave to another, linearly: float32 [samples] of two waves [samples]."""
    length = len(after)
    rise = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    return after * rise + before * rise[::-1]


class LazyRows:
    """Rows [channels] of a long table, computed block by block when they are read.

    They must be read from the beginning to the end, with steps back that are shorter than what was
    read: blocks before the last read are dropped.
    """

    def __init__(self, compute: Callable[[int], np.ndarray], size: int, count: int):
        """Make a table that holds nothing yet.

        Args:
          compute: Returns the rows [size, channels] of the block with a given number.
          size: Rows of a block.
          count: Rows of the table; those behind it read as zeros.
        """
        self._compute = compute
        self._size = size
        self._count = count
        self._blocks: dict[int, np.ndarray] = {}

    @property
    def held_blocks(self) -> int:
        """Number of blocks that are in memory."""
        return len(self._blocks)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop, start at least 0: [stop - start, channels]."""
        last = min(stop, self._count)
        first_block = start // self._size
        end_block = max(-(-last // self._size), first_block + 1)
        self._blocks = {
            number: block for number, block in self._blocks.items() if number >= first_block
        }
        for number in range(first_block, end_block):
            if number not in self._blocks:
                self._blocks[number] = self._compute(number)
        table = np.concatenate([self._blocks[n] for n in range(first_block, end_block)])
        offset = first_block * self._size
        rows = table[start - offset : last - offset]
        return np.pad(rows, ((0, stop - start - len(rows)), (0, 0)))


def _inner_frames(shape: int) -> int:
    """Frames of a chunk without its context."""
    return shape - 2 * CONTEXT_FRAMES
