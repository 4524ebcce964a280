"""Chunks cover a recording exactly once and join without a trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvc_jax.infer.chunks import CHUNK_FRAMES, CONTEXT_FRAMES, FADE_FRAMES, join, plan_chunks

even_frames = st.integers(1, 20000).map(lambda half: 2 * half)


@given(even_frames)
def test_every_frame_is_kept_once_with_context_on_both_sides(frames: int) -> None:
    chunks = plan_chunks(frames)
    assert [chunk.begin for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == frames
    for chunk in chunks:
        assert chunk.frames in CHUNK_FRAMES
        assert chunk.first % 2 == 0 and chunk.begin % 2 == 0
        assert chunk.first + CONTEXT_FRAMES <= chunk.begin < chunk.end
        assert chunk.end <= chunk.first + chunk.frames - CONTEXT_FRAMES


@given(even_frames)
def test_little_is_computed_in_vain(frames: int) -> None:
    chunks = plan_chunks(frames)
    outside = max(chunk.first + chunk.frames for chunk in chunks) - frames
    assert outside == CONTEXT_FRAMES or len(chunks) == 1
    computed = sum(chunk.frames - 2 * CONTEXT_FRAMES for chunk in chunks)
    assert computed < frames / 0.75 + min(CHUNK_FRAMES)


@pytest.mark.parametrize("frames", [100, 500, 2000, 5002])
def test_pieces_of_one_wave_join_to_that_wave(frames: int) -> None:
    hop = 40
    chunks = plan_chunks(frames)
    before = CONTEXT_FRAMES
    length = before + max(chunk.first + chunk.frames for chunk in chunks)
    whole = np.random.default_rng(0).standard_normal(length * hop).astype(np.float32)
    pieces = [whole[(before + c.first) * hop : (before + c.first + c.frames) * hop] for c in chunks]
    np.testing.assert_allclose(join(pieces, chunks, hop), whole[before * hop : (before + frames) * hop], atol=1e-6)


def test_a_join_fades_and_nothing_else_changes() -> None:
    hop, frames = 10, 480
    chunks = plan_chunks(frames, (336,))
    joined = join([np.full(chunk.frames * hop, float(i)) for i, chunk in enumerate(chunks)], chunks, hop)
    seam, fade = chunks[1].begin * hop, FADE_FRAMES * hop
    assert (joined[: seam - fade] == 0).all() and (joined[seam + fade :] == 1).all()
    steps = np.diff(joined[seam - fade : seam + fade])
    np.testing.assert_allclose(steps, 1 / (2 * fade), rtol=1e-3)
