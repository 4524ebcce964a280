"""How a recording of any length becomes pieces of a few fixed shapes, and how the pieces become one again.

Frames are counted from the recording's first; the reflected margin before it has negative numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rvc_jax.config import WINDOW_FRAMES

CHUNK_FRAMES = (WINDOW_FRAMES, 4 * WINDOW_FRAMES)
"""Frames that the voice model speaks at once: one shape for short recordings and remainders, one for long ones."""

CONTEXT_FRAMES = 48
"""Frames at either end of a chunk that are only heard out: more than the convolutions of the model reach (40)."""

FADE_FRAMES = 2
"""Frames before and after a join over which one chunk is faded into the next."""

_WORTHWHILE = 0.75


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

    frames: length of the recording, even. The longest shape that is filled to three quarters is taken, else the
    shortest; the last chunk is moved back rather than left partly empty, so that chunks need what lies outside the
    recording only for their context, or where the whole recording is shorter than a chunk.
    """
    chunks: list[Chunk] = []
    begin = 0
    while begin < frames:
        shape = max((s for s in shapes if _WORTHWHILE * _kept(s) <= frames - begin), default=min(shapes))
        start = max(min(begin, frames - _kept(shape)), 0)
        end = min(start + _kept(shape), frames)
        chunks.append(Chunk(shape, start - CONTEXT_FRAMES, begin, end))
        begin = end
    return chunks


def join(waves: Iterable[np.ndarray], chunks: Sequence[Chunk], hop: int) -> np.ndarray:
    """The kept parts of the chunks' waves [chunk.frames * hop] in one: float32 [frames * hop]."""
    frames = chunks[-1].end
    joined = np.zeros(frames * hop, np.float32)
    rise = (np.arange(2 * FADE_FRAMES * hop, dtype=np.float32) + 0.5) / (2 * FADE_FRAMES * hop)
    for wave, chunk in zip(waves, chunks, strict=True):
        begin = max(chunk.begin - FADE_FRAMES, 0)
        end = min(chunk.end + FADE_FRAMES, frames)
        part = wave[(begin - chunk.first) * hop : (end - chunk.first) * hop].copy()
        if chunk.begin > 0:
            part[: len(rise)] *= rise
        if chunk.end < frames:
            part[-len(rise) :] *= rise[::-1]
        joined[begin * hop : end * hop] += part
    return joined


def _kept(shape: int) -> int:
    return shape - 2 * CONTEXT_FRAMES
