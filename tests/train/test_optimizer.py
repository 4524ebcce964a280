"""What a step takes of a window, and the optimiser's step of some parameters before the others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rvc_jax.config import STEP_FRAMES, WINDOW_FRAMES, TrainConfig
from rvc_jax.models.kernels.weight_norm import LARGE_KERNEL
from rvc_jax.train.optimizer import gradient_norm, joined, only, stepped, updated
from rvc_jax.train.step import crop_windows

HOP = 4


def test_a_step_takes_every_part_of_a_long_window_alike() -> None:
    lengths = [WINDOW_FRAMES, STEP_FRAMES + 11, STEP_FRAMES, 200]
    frames = np.arange(WINDOW_FRAMES, dtype=np.float32)
    windows = {
        "f0": np.tile(frames, (4, 1)),
        "wave": np.tile(frames.repeat(HOP), (4, 1)),
        "content": np.tile(frames[::2, None], (4, 1, 3)).astype(np.float16),
        "lengths": np.array(lengths, np.int32),
        "speaker": np.arange(4, dtype=np.int32),
    }
    draw = jax.jit(lambda seed: crop_windows(jax.random.key(seed), windows, HOP))
    parts = [jax.device_get(draw(seed)) for seed in range(300)]
    for part in parts:
        assert part["f0"].shape == (4, STEP_FRAMES)
        np.testing.assert_array_equal(part["wave"], part["f0"].repeat(HOP, axis=1))
        np.testing.assert_array_equal(
            part["content"], part["f0"][:, ::2, None].repeat(3, axis=2)
        )
        np.testing.assert_array_equal(part["lengths"], np.minimum(lengths, STEP_FRAMES))
        np.testing.assert_array_equal(part["speaker"], windows["speaker"])
    starts = np.array([part["f0"][:, 0] for part in parts])
    rooms = [WINDOW_FRAMES - STEP_FRAMES, 10, 0, 0]
    for start, room in zip(starts.T, rooms, strict=True):
        values, counts = np.unique(start, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(0, room + 1, 2))
        assert counts.min() > 0.4 * len(start) / len(values)


def test_windows_of_no_more_frames_are_taken_whole() -> None:
    windows = {"f0": jnp.zeros((2, STEP_FRAMES)), "lengths": jnp.array([STEP_FRAMES, 7])}
    assert crop_windows(jax.random.key(0), windows, HOP) is windows


def test_parts_make_the_step_of_the_whole() -> None:
    random = np.random.default_rng(0)
    shapes = {"a": (3, 2), "b": (4,), "c": (2, 2)}
    parameters, grads = (
        {n: jnp.asarray(random.standard_normal(s)) for n, s in shapes.items()} for _ in range(2)
    )
    recipe = TrainConfig()
    rate = jnp.float32(0.5)
    good = jnp.bool_(True)
    for transform in (
        optax.adamw(1e-2),
        optax.lion(1e-2),
        optax.radam(1e-2),
        optax.adabelief(1e-2),
    ):
        state = transform.init(parameters)
        whole = stepped(recipe, transform, rate, grads, parameters, state, good)
        parts = [
            stepped(
                recipe,
                transform,
                rate,
                *only((grads, parameters, state), parameters, names),
                good,
            )
            for names in (["b"], ["a", "c"])
        ]
        together = joined(parts)
        assert jax.tree.structure(together) == jax.tree.structure(whole)
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_norm_leaves_large_kernels_out_unless_it_is_clipped_by() -> None:
    large = jnp.full(LARGE_KERNEL, 2.0)
    grads = {
        "a.weight_v": large,
        "a.weight_g": jnp.array([3.0]),
        "b.weight": large,
        "b.bias": jnp.array([4.0]),
        "2 as c.weight": jnp.zeros((2, LARGE_KERNEL)),
        "d.weight": jnp.zeros(3),
    }
    assert float(gradient_norm(grads)) == 5
    clipped = TrainConfig(clip_norm=1.0)
    transform = optax.sgd(1.0)
    new, _, norm, good = updated(
        clipped,
        transform,
        jnp.float32(1),
        jnp.float32(0),
        grads,
        jax.tree.map(jnp.zeros_like, grads),
        transform.init(grads),
    )
    assert float(norm) > 1000 and float(good) == 1
    np.testing.assert_allclose(optax.tree.norm(new), 1, rtol=1e-3)
