"""The training step: what it draws, how it spreads over devices, and that it learns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import MICRO, NANO
from on_devices import run_on_devices
from random_windows import PRESET, random_batch

from rvc_jax.config import PRESETS
from rvc_jax.data.dataset import load_dataset
from rvc_jax.models.parameters import Parameters
from rvc_jax.models.synthesizer import Latents
from rvc_jax.train.loader import gather
from rvc_jax.train.networks import Networks, build_networks
from rvc_jax.train.segments import Segments
from rvc_jax.train.state import create_state, init_state
from rvc_jax.train.step import (
    Metrics,
    accumulate,
    discriminate,
    forward,
    generator_loss,
    generator_loss_and_grad,
    make_discriminator_loss,
    make_step,
)

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "parity" / "features.npz"


def steps_on(devices: int) -> list[dict[str, Any]]:
    output = run_on_devices(devices, HERE.parent / "helpers" / "mesh_losses.py")
    return [json.loads(line) for line in output.splitlines()]


def test_eight_devices_give_the_losses_of_one() -> None:
    one = steps_on(1)
    eight = steps_on(8)
    forms = [(line["devices"], line["form"]) for line in eight]
    assert forms == 3 * [(8, "whole")] + 3 * [(8, "split")]
    for alone, spread in zip(2 * one, eight, strict=True):
        for name in alone:
            if name.startswith("loss/"):
                assert spread[name] == pytest.approx(alone[name], rel=1e-4), name
    assert one[2]["loss/mel"] < one[0]["loss/mel"]


@pytest.mark.parametrize("preset", ["32k", "40k", "48k"])
def test_the_mel_term_is_45_times_the_distance_of_the_golden_log_mels(preset: str) -> None:
    """A golden wave against its own log-mel of two frames later."""
    audio = PRESETS[preset].audio
    networks = build_networks(dataclasses.replace(MICRO, audio=audio), steps_per_epoch=1)
    with np.load(GOLDEN) as file:
        wave, golden = (file[f"{kind}.{audio.sample_rate}"] for kind in ("wave", "logmel"))
    later = np.roll(golden, -2, axis=1)
    zeros = jnp.zeros((1, 1, 1))
    outputs = (jnp.asarray(wave)[None], Latents(zeros, zeros, zeros, zeros, zeros + 1))
    target = jnp.asarray(later.T)[None]

    @jax.jit
    def loss(params: Parameters) -> tuple[jax.Array, Metrics]:
        real = discriminate(networks, params, outputs[0])
        return generator_loss(networks, params, real, target, outputs)

    total, terms = loss(networks.discriminator.init(0))
    assert float(terms["loss/mel"]) == pytest.approx(
        45 * np.abs(golden - later).mean(), rel=1e-4
    )
    others = sum(
        float(terms[f"loss/{name}"]) for name in ("adversarial", "feature_matching", "kl")
    )
    assert float(total) == pytest.approx(float(terms["loss/mel"]) + others, rel=1e-5)


def test_nano_learns_ten_seconds_of_speech_by_heart(sample_dataset: Path) -> None:
    """80 steps on the same four windows: the log-mel error of their segments, 1.6 at first, was
    1.16 in the last 20."""
    networks = build_networks(NANO, steps_per_epoch=100)
    windows = load_dataset(sample_dataset).train
    longest = np.argsort(windows.lengths)[-4:]
    assert 900 <= windows.lengths[longest].sum() <= 1200
    state = jax.device_put(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 1234)
    )
    batch = jax.device_put(gather(windows, longest))
    step = jax.jit(make_step(networks), donate_argnums=0)
    errors = []
    for _ in range(80):
        state, metrics = step(state, batch)
        errors.append(float(metrics["loss/mel"]) / 45)
    assert np.mean(errors[-20:]) < 1.3 < errors[0], errors


def test_a_step_without_a_finite_gradient_changes_nothing_and_says_so() -> None:
    networks = build_networks(PRESET, 3)
    state = init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    batch = random_batch(4).to_float()
    bad = dataclasses.replace(batch, wave=jnp.asarray(batch.wave).at[0].set(np.nan))
    step = jax.jit(make_step(networks))
    after, metrics = step(state, bad)
    assert float(metrics["skipped"]) == 1 and int(after.step) == 1
    for part in ("generator", "discriminator"):
        same = jax.tree.map(
            lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()),
            getattr(state, part),
            getattr(after, part),
        )
        assert all(jax.tree.leaves(same)), part
    after, metrics = step(state, batch)
    assert float(metrics["skipped"]) == 0
    slower, _ = step(dataclasses.replace(state, rate=state.rate * 0.5), batch)
    name = "dec.conv_pre.weight"
    moved, half = (
        np.asarray(each.generator.params[name]) - state.generator.params[name]
        for each in (after, slower)
    )
    # Against a discriminator that moved half as far, too.
    np.testing.assert_allclose(2 * half, moved, atol=5e-6)


def test_a_step_with_an_average_a_frozen_part_and_a_rare_discriminator() -> None:
    recipe = dataclasses.replace(MICRO.train, ema=0.9, freeze="enc_q", discriminator_every=2)
    networks = build_networks(dataclasses.replace(MICRO, train=recipe), 3)
    batch = random_batch(2)
    first = create_state(
        networks.synthesizer.init(0),
        networks.discriminator.init(0),
        networks.optimizer,
        with_average=True,
    )
    step = jax.jit(make_step(networks))
    second, metrics = step(first, batch)
    third, other_metrics = step(second, batch)

    def moved(before: Any, after: Any) -> list[str]:
        return [
            name for name, value in after.params.items() if (value != before.params[name]).any()
        ]

    assert moved(first.discriminator, second.discriminator)
    assert not moved(second.discriminator, third.discriminator)
    assert all(
        np.isfinite(float(each["loss/discriminator"])) for each in (metrics, other_metrics)
    )
    assert float(metrics["skipped"]) == float(other_metrics["skipped"]) == 0
    changed = moved(first.generator, third.generator)
    assert changed and not any(name.startswith("enc_q.") for name in changed)
    name = "dec.conv_pre.weight"
    np.testing.assert_allclose(
        second.average[name],
        0.1 * first.generator.params[name] + 0.9 * second.generator.params[name],
        atol=1e-6,
    )


def test_accumulated_losses_and_gradients_are_the_means_of_the_parts() -> None:
    recipe = dataclasses.replace(MICRO.train, accumulate=2)
    networks = build_networks(dataclasses.replace(MICRO, train=recipe), 3)
    batch = random_batch(4).to_float()
    segments = Segments(batch, jnp.array([0, 3, 8, 1]))
    generator = networks.synthesizer.init(0)
    discriminator = networks.discriminator.init(0)
    rng = jax.random.key(3)

    def in_one(
        networks: Networks, params: Parameters, segments: Segments, rng: jax.Array
    ) -> tuple[Callable, Callable]:
        rendered, pullback = forward(networks, params, segments, rng)

        def loss_and_grad(discriminator: Parameters) -> tuple[Metrics, Parameters]:
            terms, cotangents = generator_loss_and_grad(networks, discriminator, rendered)
            return terms, pullback(cotangents)[0]

        return make_discriminator_loss(networks, rendered), loss_and_grad

    def results(way: Callable, segments: Segments, rng: jax.Array) -> tuple:
        discriminator_loss, loss_and_grad = way(networks, generator, segments, rng)
        value, grads = jax.value_and_grad(discriminator_loss)(discriminator)
        return value, grads, *loss_and_grad(discriminator)

    whole = jax.jit(lambda segments, rng: results(in_one, segments, rng))
    parts = [jax.tree.map(lambda array, i=i: array[i::2], segments) for i in range(2)]
    halves = [
        whole(part, each) for part, each in zip(parts, jax.random.split(rng, 2), strict=True)
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    ours = jax.jit(lambda segments, rng: results(accumulate, segments, rng))(segments, rng)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        bound = 1e-4 * max(float(jnp.abs(other).max()), 1e-2)
        assert float(jnp.abs(one - other).max()) <= bound
