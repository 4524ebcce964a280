"""Chunks cover a recording exactly once and join without a trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvc_jax.infer.chunking import (
    CHUNK_FRAMES,
    CONTEXT_FRAMES,
    FADE_FRAMES,
    Chunk,
    LazyRows,
    join_chunks,
    plan_chunks,
)


def joined(waves: list[np.ndarray | None], chunks: list[Chunk], hop: int) -> np.ndarray:
    return np.concatenate(list(join_chunks(waves, chunks, hop)))


even_frames = st.integers(1, 20000).map(lambda half: 2 * half)


@given(even_frames)
def test_outputs_cover_every_frame_once(frames: int) -> None:
    chunks = plan_chunks(frames)
    assert [chunk.begin for chunk in chunks] == [0, *(chunk.end for chunk in chunks[:-1])]
    assert chunks[-1].end == frames
    for chunk in chunks:
        assert chunk.frames in CHUNK_FRAMES
        assert chunk.first % 2 == 0 and chunk.begin % 2 == 0
        assert chunk.first + CONTEXT_FRAMES <= chunk.begin < chunk.end
        assert chunk.end <= chunk.first + chunk.frames - CONTEXT_FRAMES


@given(even_frames)
def test_chunks_waste_little(frames: int) -> None:
    chunks = plan_chunks(frames)
    outside = max(chunk.first + chunk.frames for chunk in chunks) - frames
    assert outside == CONTEXT_FRAMES or len(chunks) == 1
    computed = sum(chunk.frames - 2 * CONTEXT_FRAMES for chunk in chunks)
    assert computed < frames / 0.75 + min(CHUNK_FRAMES)


@pytest.mark.parametrize("frames", [100, 500, 2000, 5002])
def test_parts_of_one_wave_join_to_that_wave(frames: int) -> None:
    hop = 40
    chunks = plan_chunks(frames)
    before = CONTEXT_FRAMES
    length = before + max(chunk.first + chunk.frames for chunk in chunks)
    whole = np.random.default_rng(0).standard_normal(length * hop).astype(np.float32)
    pieces = [
        whole[(before + c.first) * hop : (before + c.first + c.frames) * hop] for c in chunks
    ]
    np.testing.assert_allclose(
        joined(pieces, chunks, hop), whole[before * hop : (before + frames) * hop], atol=1e-6
    )


def test_joins_are_crossfaded() -> None:
    hop = 10
    frames = 480
    chunks = plan_chunks(frames, (336,))
    wave = joined(
        [np.full(chunk.frames * hop, float(i)) for i, chunk in enumerate(chunks)], chunks, hop
    )
    seam = chunks[1].begin * hop
    fade = FADE_FRAMES * hop
    assert (wave[: seam - fade] == 0).all() and (wave[seam + fade :] == 1).all()
    steps = np.diff(wave[seam - fade : seam + fade])
    np.testing.assert_allclose(steps, 1 / (2 * fade), rtol=1e-3)


def test_missing_chunks_are_silent() -> None:
    hop = 10
    chunks = plan_chunks(1000, (336,))
    waves = [None if i == 1 else np.ones(chunk.frames * hop) for i, chunk in enumerate(chunks)]
    zeros = [
        np.zeros(chunk.frames * hop) if i == 1 else wave
        for i, (wave, chunk) in enumerate(zip(waves, chunks, strict=True))
    ]
    np.testing.assert_array_equal(joined(waves, chunks, hop), joined(zeros, chunks, hop))


@given(
    size=st.integers(1, 9),
    count=st.integers(1, 60),
    length=st.integers(1, 20),
    step=st.integers(1, 30),
)
def test_lazy_rows_are_computed_once_and_dropped(
    size: int, count: int, length: int, step: int
) -> None:
    computed = []

    def compute(number: int) -> np.ndarray:
        computed.append(number)
        return np.arange(number * size, (number + 1) * size, dtype=float)[:, None] + 1

    rows = LazyRows(compute, size, count)
    for start in range(0, count, step):
        numbers = np.arange(start, start + length)
        np.testing.assert_array_equal(
            rows.read(start, start + length)[:, 0], np.where(numbers < count, numbers + 1, 0)
        )
        assert rows.held_blocks <= length // size + 2
    assert len(set(computed)) == len(computed) and max(computed) * size < count
