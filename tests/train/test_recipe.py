"""What the recipe's options do to a step: schedules, optimisers, clipping, frozen parts, averages,
rarer updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import MICRO

from rvc_jax.config import TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.train import optimizer as update
from rvc_jax.train import step as step_module
from rvc_jax.train.resume import check_recipe
from rvc_jax.train.state import TrainState, averaged, create_state, learning_rate, optimizer
from rvc_jax.train.step import Networks, build_networks, make_step

OPTIMIZERS = get_args(get_type_hints(TrainConfig)["optimizer"])


def test_courses_of_the_learning_rate() -> None:
    recipe = TrainConfig(learning_rate=1e-3, epochs=4)
    classic = learning_rate(recipe, 10)
    assert float(classic(0)) == pytest.approx(1e-3) and float(classic(25)) == pytest.approx(
        1e-3 * 0.999875**2
    )
    constant = learning_rate(
        dataclasses.replace(recipe, schedule="constant", warmup_steps=5), 10
    )
    assert [float(constant(jnp.int32(step))) for step in (0, 1, 4, 5, 39)] == pytest.approx(
        [2e-4, 4e-4, 1e-3, 1e-3, 1e-3]
    )
    cosine = learning_rate(dataclasses.replace(recipe, schedule="cosine"), 10)
    assert [float(cosine(step)) for step in (0, 20, 40, 99)] == pytest.approx(
        [1e-3, 5.05e-4, 1e-5, 1e-5]
    )
    limited = learning_rate(dataclasses.replace(recipe, schedule="cosine", steps=20), 10)
    assert float(limited(20)) == pytest.approx(1e-5)


def test_a_rarely_updated_network_follows_the_run_s_course() -> None:
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
        transform = optimizer(recipe, 10, every)
        state = transform.init(parameters)
        for _ in range(3):
            updates, state = transform.update(grads, state, parameters)
        assert float(updates["a"][0]) == pytest.approx(-1e-2 * (2 * every + 1) / 10)


def updated(
    recipe: TrainConfig, rate: float = 1.0, gradient: float = 0.1
) -> tuple[dict, jax.Array]:
    """Two parameters after one step, and the gradient's norm."""
    transform = optimizer(recipe, 10)
    parameters = {
        "dec.conv.weight": jnp.array([1.0, -2.0]),
        "enc_p.proj.bias": jnp.array([3.0, 4.0]),
    }
    grads = {name: jnp.full(2, gradient) for name in parameters}
    new, _, norm, is_good = update.updated(
        recipe,
        transform,
        jnp.float32(rate),
        jnp.float32(1),
        grads,
        parameters,
        transform.init(parameters),
    )
    assert float(is_good) == 1
    return {name: np.asarray(new[name] - parameters[name]) for name in new}, norm


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_steps_downhill_and_half_the_rate_is_half_the_step(name: str) -> None:
    recipe = TrainConfig(optimizer=name, learning_rate=1e-2, weight_decay=0.0)
    (whole, _) = updated(recipe)
    (half, _) = updated(recipe, rate=0.5)
    for each in whole:
        assert (whole[each] < 0).all()
        np.testing.assert_allclose(
            half[each], whole[each] / 2, rtol=1e-2
        )  # of numbers near 4, in float32


def test_adamw_is_the_one_of_pytorch() -> None:
    """First step: every parameter by the rate against its gradient's sign, and by rate * decay
    towards zero."""
    moved, _ = updated(TrainConfig(learning_rate=1e-2, weight_decay=0.1))
    np.testing.assert_allclose(
        moved["dec.conv.weight"], [-0.01 - 0.001, -0.01 + 0.002], rtol=1e-4
    )


def test_clipping_bounds_the_gradient_and_tells_its_norm() -> None:
    recipe = TrainConfig(optimizer="lion", beta1=0.0, weight_decay=0.0)
    assert float(updated(dataclasses.replace(recipe, clip_norm=1.0))[1]) == pytest.approx(0.2)
    grads = {"dec.a": jnp.full(4, 3.0), "flow.a": jnp.full(4, 100.0)}
    seen = []
    transform = SimpleNamespace(update=lambda g, state, p: (seen.append(g), (g, state))[1])
    zeros = {name: jnp.zeros(4) for name in grads}
    clipping = TrainConfig(clip_norm=0.5, freeze="flow")
    update.updated(clipping, transform, jnp.float32(1), jnp.float32(1), grads, zeros, ())
    assert float(jnp.linalg.norm(seen[0]["dec.a"])) == pytest.approx(
        0.5, rel=1e-4
    )  # what is frozen does not count


def test_a_frozen_part_stays_bit_for_bit() -> None:
    moved, _ = updated(TrainConfig(freeze="enc_p,flow", weight_decay=0.1))
    assert (moved["enc_p.proj.bias"] == 0).all() and (moved["dec.conv.weight"] != 0).all()


def test_the_average_forgets_its_beginning_and_follows() -> None:
    average = {"a": jnp.array(100.0)}
    for step in range(200):
        average = averaged(average, {"a": jnp.array(1.0)}, jnp.int32(step), 0.999)
    assert float(average["a"]) == pytest.approx(1.0, abs=1e-3)
    assert float(
        averaged({"a": jnp.array(0.0)}, {"a": jnp.array(1.0)}, jnp.int32(10**6), 0.9)["a"]
    ) == pytest.approx(0.1)


def batch_of(count: int) -> dict[str, np.ndarray]:
    """Random windows of 40 frames for MICRO."""
    random = np.random.default_rng(0)
    frames = 40
    micro = MICRO
    return {
        "wave": (0.3 * random.standard_normal((count, frames * micro.audio.hop))).astype(
            np.float32
        ),
        "content": random.standard_normal(
            (count, frames // 2, micro.generator.content_channels)
        ).astype(np.float16),
        "f0": random.uniform(80, 300, (count, frames)).astype(np.float32),
        "lengths": np.full(count, frames, np.int32),
        "speaker": np.zeros(count, np.int32),
    }


def test_a_step_with_an_average_a_frozen_part_and_a_rare_discriminator() -> None:
    recipe = dataclasses.replace(MICRO.train, ema=0.9, freeze="enc_q", discriminator_every=2)
    networks = build_networks(dataclasses.replace(MICRO, train=recipe), 3)
    batch = batch_of(2)
    first = create_state(
        networks.synthesizer.init(0),
        networks.discriminator.init(0),
        networks.optimizer,
        averaged=True,
    )
    step = jax.jit(make_step(networks))
    second, metrics = step(first, batch)
    third, other_metrics = step(second, batch)
    moved = lambda before, after, part: [  # noqa: E731
        name
        for name, value in getattr(after, part).items()
        if (value != getattr(before, part)[name]).any()
    ]
    assert moved(first, second, "discriminator") and not moved(second, third, "discriminator")
    assert all(
        np.isfinite(float(each["loss/discriminator"])) for each in (metrics, other_metrics)
    )
    assert float(metrics["skipped"]) == float(other_metrics["skipped"]) == 0
    changed = moved(first, third, "generator")
    assert changed and not any(name.startswith("enc_q.") for name in changed)
    name = "dec.conv_pre.weight"
    np.testing.assert_allclose(
        second.average[name],
        0.1 * first.generator[name] + 0.9 * second.generator[name],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"freeze": "decoder"}, "enc_p, enc_q"),
        ({"ema": 1.0}, "--ema"),
        ({"clip_norm": -1.0}, "--clip-norm"),
        ({"steps": -1}, "--steps"),
        ({"discriminator_every": 0}, "--discriminator-every"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_recipe(dataclasses.replace(TrainConfig(), **changes))


def test_accumulated_losses_and_gradients_are_the_means_of_the_parts() -> None:
    networks = build_networks(
        dataclasses.replace(MICRO, train=dataclasses.replace(MICRO.train, accumulate=2)), 3
    )
    batch = dict(batch_of(4), start=jnp.array([0, 3, 8, 1]))
    state = create_state(
        networks.synthesizer.init(0), networks.discriminator.init(0), networks.optimizer
    )
    rng = jax.random.key(3)

    def results(way: Callable, batch: dict, rng: jax.Array) -> tuple:
        discriminator_loss, generator_gradients = way(networks, state, batch, rng)
        value, grads = jax.value_and_grad(discriminator_loss)(state.discriminator)
        return value, grads, *generator_gradients(state.discriminator)

    def in_one(
        networks: Networks, state: TrainState, batch: dict, rng: jax.Array
    ) -> tuple[Callable, Callable]:
        rendered, pull = step_module._rendered(networks, state.generator, batch, rng)

        def generator_gradients(discriminator: dict) -> tuple[dict, dict]:
            terms, cotangents = step_module.judge(networks, discriminator, rendered)
            return terms, pull(cotangents)[0]

        return step_module.make_discriminator_loss(networks, rendered), generator_gradients

    whole = jax.jit(lambda batch, rng: results(in_one, batch, rng))
    parts = [jax.tree.map(lambda array, i=i: array[i::2], batch) for i in range(2)]
    halves = [
        whole(part, each) for part, each in zip(parts, jax.random.split(rng, 2), strict=True)
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    ours = jax.jit(lambda batch, rng: results(step_module._accumulate, batch, rng))(batch, rng)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert float(jnp.abs(one - other).max()) <= 1e-4 * max(
            float(jnp.abs(other).max()), 1e-2
        )
