"""Which part of a window a step trains on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from random_windows import random_batch

from rvc_jax.config import STEP_FRAMES, WINDOW_FRAMES
from rvc_jax.train.loader import Batch
from rvc_jax.train.segments import crop_windows, draw_segment_starts

HOP = 4


def test_segments_start_anywhere_in_a_window_and_nowhere_else() -> None:
    lengths = np.array([32, 33, 40, 336, 20], np.int32)
    draw = jax.vmap(lambda key: draw_segment_starts(key, lengths, 32))
    starts = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    assert starts.min(axis=0).tolist() == [0, 0, 0, 0, 0]
    assert starts.max(axis=0).tolist() == [0, 1, 8, 304, 0]
    counts = np.bincount(starts[:, 2], minlength=9)
    assert np.all(np.abs(counts / 20_000 - 1 / 9) < 0.01)


def test_a_step_takes_every_part_of_a_long_window_alike() -> None:
    lengths = [WINDOW_FRAMES, STEP_FRAMES + 11, STEP_FRAMES, 200]
    frames = np.arange(WINDOW_FRAMES, dtype=np.float32)
    windows = Batch(
        f0=np.tile(frames, (4, 1)),
        wave=np.tile(frames.repeat(HOP), (4, 1)),
        content=np.tile(frames[::2, None], (4, 1, 3)).astype(np.float16),
        lengths=np.array(lengths, np.int32),
        speaker=np.arange(4, dtype=np.int32),
    )
    draw = jax.jit(lambda seed: crop_windows(jax.random.key(seed), windows, HOP))
    parts = [jax.device_get(draw(seed)) for seed in range(300)]
    for part in parts:
        assert part.f0.shape == (4, STEP_FRAMES)
        np.testing.assert_array_equal(part.wave, part.f0.repeat(HOP, axis=1))
        np.testing.assert_array_equal(part.content, part.f0[:, ::2, None].repeat(3, axis=2))
        np.testing.assert_array_equal(part.lengths, np.minimum(lengths, STEP_FRAMES))
        np.testing.assert_array_equal(part.speaker, windows.speaker)
    starts = np.array([part.f0[:, 0] for part in parts])
    rooms = [WINDOW_FRAMES - STEP_FRAMES, 10, 0, 0]
    for start, room in zip(starts.T, rooms, strict=True):
        values, counts = np.unique(start, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(0, room + 1, 2))
        assert counts.min() > 0.4 * len(start) / len(values)


def test_short_windows_are_taken_whole() -> None:
    windows = random_batch(2)
    windows = dataclasses.replace(windows, f0=jnp.zeros((2, STEP_FRAMES)))
    assert crop_windows(jax.random.key(0), windows, HOP) is windows
