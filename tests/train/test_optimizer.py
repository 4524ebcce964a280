"""Schedules, optimizers, and their step: clipped, frozen, part by part."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvc_jax.config import TrainConfig
from rvc_jax.models.kernels.weight_norm import LARGE_KERNEL
from rvc_jax.train.optimizer import (
    apply_gradients,
    clip_and_apply,
    ema_update,
    gradient_norm,
    make_optimizer,
    make_schedule,
    merge,
    select,
)
from rvc_jax.train.state import NetworkState

OPTIMIZERS = get_args(get_type_hints(TrainConfig)["optimizer"])


def test_learning_rate_decays_once_per_epoch() -> None:
    schedule = make_schedule(TrainConfig(), steps_per_epoch=10)
    assert schedule(9) == 1e-4
    assert schedule(10) == pytest.approx(0.999875e-4)
    assert schedule(10 * 200) == pytest.approx(9.753e-5, rel=1e-4)


def test_schedules_of_the_learning_rate() -> None:
    recipe = TrainConfig(learning_rate=1e-3, epochs=4)
    classic = make_schedule(recipe, 10)
    assert float(classic(0)) == pytest.approx(1e-3)
    assert float(classic(25)) == pytest.approx(1e-3 * 0.999875**2)
    constant = make_schedule(
        dataclasses.replace(recipe, schedule="constant", warmup_steps=5), 10
    )
    assert [float(constant(jnp.int32(step))) for step in (0, 1, 4, 5, 39)] == pytest.approx(
        [2e-4, 4e-4, 1e-3, 1e-3, 1e-3]
    )
    cosine = make_schedule(dataclasses.replace(recipe, schedule="cosine"), 10)
    assert [float(cosine(step)) for step in (0, 20, 40, 99)] == pytest.approx(
        [1e-3, 5.05e-4, 1e-5, 1e-5]
    )
    limited = make_schedule(dataclasses.replace(recipe, schedule="cosine", steps=20), 10)
    assert float(limited(20)) == pytest.approx(1e-5)


def test_a_rarely_updated_network_follows_the_schedule_of_the_run() -> None:
    recipe = TrainConfig(
        learning_rate=1e-2,
        schedule="constant",
        warmup_steps=10,
        optimizer="lion",
        weight_decay=0.0,
    )
    parameters = {"a": jnp.zeros(1)}
    grads = {"a": jnp.ones(1)}
    for every in (1, 2):
        transform = make_optimizer(recipe, 10, every)
        state = transform.init(parameters)
        for _ in range(3):
            updates, state = transform.update(grads, state, parameters)
        assert float(updates["a"][0]) == pytest.approx(-1e-2 * (2 * every + 1) / 10)


def change_of(
    recipe: TrainConfig, rate: float = 1.0, gradient: float = 0.1
) -> tuple[dict, jax.Array]:
    """Change of two parameters in one step, and the gradient's norm."""
    transform = make_optimizer(recipe, 10)
    params = {
        "dec.conv.weight": jnp.array([1.0, -2.0]),
        "enc_p.proj.bias": jnp.array([3.0, 4.0]),
    }
    grads = {name: jnp.full(2, gradient) for name in params}
    state = NetworkState(params, transform.init(params))
    new, norm, is_good = clip_and_apply(
        recipe, transform, jnp.float32(rate), jnp.float32(1), grads, state
    )
    assert float(is_good) == 1
    return {name: np.asarray(new.params[name] - params[name]) for name in params}, norm


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_half_the_rate_is_half_the_step_downhill(name: str) -> None:
    recipe = TrainConfig(optimizer=name, learning_rate=1e-2, weight_decay=0.0)
    whole, _ = change_of(recipe)
    half, _ = change_of(recipe, rate=0.5)
    for each in whole:
        assert (whole[each] < 0).all()
        # Differences of numbers near 4, in float32.
        np.testing.assert_allclose(half[each], whole[each] / 2, rtol=1e-2)


def test_adamw_is_the_one_of_pytorch() -> None:
    """First step: every parameter by the rate against its gradient's sign, and by rate * decay
    towards zero."""
    moved, _ = change_of(TrainConfig(learning_rate=1e-2, weight_decay=0.1))
    np.testing.assert_allclose(
        moved["dec.conv.weight"], [-0.01 - 0.001, -0.01 + 0.002], rtol=1e-4
    )


def test_clipping_bounds_the_gradient_and_returns_its_norm() -> None:
    recipe = TrainConfig(optimizer="lion", beta1=0.0, weight_decay=0.0)
    assert float(change_of(dataclasses.replace(recipe, clip_norm=1.0))[1]) == pytest.approx(0.2)
    grads = {"dec.a": jnp.full(4, 3.0), "flow.a": jnp.full(4, 100.0)}
    seen = []
    transform = SimpleNamespace(update=lambda g, state, p: (seen.append(g), (g, state))[1])
    state = NetworkState({name: jnp.zeros(4) for name in grads}, ())
    clipping = TrainConfig(clip_norm=0.5, freeze="flow")
    clip_and_apply(clipping, transform, jnp.float32(1), jnp.float32(1), grads, state)
    # What is frozen does not count.
    assert float(jnp.linalg.norm(seen[0]["dec.a"])) == pytest.approx(0.5, rel=1e-4)


def test_a_frozen_part_stays_bit_for_bit() -> None:
    moved, _ = change_of(TrainConfig(freeze="enc_p,flow", weight_decay=0.1))
    assert (moved["enc_p.proj.bias"] == 0).all() and (moved["dec.conv.weight"] != 0).all()


def test_the_average_forgets_its_beginning_and_follows() -> None:
    average = {"a": jnp.array(100.0)}
    for step in range(200):
        average = ema_update(average, {"a": jnp.array(1.0)}, jnp.int32(step), 0.999)
    assert float(average["a"]) == pytest.approx(1.0, abs=1e-3)
    late = ema_update({"a": jnp.array(0.0)}, {"a": jnp.array(1.0)}, jnp.int32(10**6), 0.9)
    assert float(late["a"]) == pytest.approx(0.1)


def test_parts_make_the_step_of_the_whole() -> None:
    random = np.random.default_rng(0)
    shapes = {"a": (3, 2), "b": (4,), "c": (2, 2)}
    params, grads = (
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
        state = NetworkState(params, transform.init(params))
        whole = apply_gradients(recipe, transform, rate, grads, state, good)
        parts = [
            apply_gradients(
                recipe, transform, rate, *select((grads, state), params, names), good
            )
            for names in (["b"], ["a", "c"])
        ]
        together = merge(parts)
        assert jax.tree.structure(together) == jax.tree.structure(whole)
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_norm_leaves_large_kernels_out_unless_it_clips() -> None:
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
    state = NetworkState(jax.tree.map(jnp.zeros_like, grads), transform.init(grads))
    new, norm, good = clip_and_apply(
        clipped, transform, jnp.float32(1), jnp.float32(0), grads, state
    )
    assert float(norm) > 1000 and float(good) == 1
    np.testing.assert_allclose(optax.tree.norm(new.params), 1, rtol=1e-3)
