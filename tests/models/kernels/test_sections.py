"""Layers of the scale discriminator on signals in sections."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import NANO, assert_close

from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import Discriminator, ScaleDiscriminator
from rvc_jax.models.kernels.options import KERNEL_CONFIGS, REFERENCE, KernelConfig
from rvc_jax.models.parameters import Network

GROUPED = dataclasses.replace(
    NANO.discriminator,
    periods=(),
    scale_channels=(4, 16, 64, 64),
    scale_kernels=(15, 11, 11, 5),
    scale_strides=(1, 4, 4, 1),
    scale_groups=(1, 2, 8, 1),
)


@pytest.mark.parametrize("samples", [192, 200])
def test_sections_and_their_gradients(samples: int) -> None:
    """Sections are for layers that widen the signal by groups, where the samples are whole
    blocks; 200 samples are not."""
    parameters = Network(Discriminator(GROUPED)).init(0)
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((2, samples)), jnp.float32)

    def compute(config: KernelConfig) -> tuple[list, tuple]:
        network = Network(Discriminator(GROUPED, config))

        def loss(parameters: dict, wave: jax.Array) -> tuple[jax.Array, list]:
            ((scores, maps),) = network(parameters, "__call__", wave)
            total = jnp.mean(scores**2)
            for parts in maps:
                for part in parts:
                    total = total + jnp.mean(part**2) / len(parts)
            return total, maps

        gradients, maps = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(parameters, wave)
        return maps, gradients

    plain_maps, plain = compute(REFERENCE)
    maps, gradients = compute(KernelConfig(merge_to=16, sectioned=True))
    assert [len(parts) for parts in maps] == ([2, 4, 4, 1, 1] if samples == 192 else [1] * 5)
    for (expected,), parts in zip(plain_maps, maps, strict=True):
        sections = [part.reshape(*expected.shape[:2], -1) for part in parts]
        assert_close(jnp.concatenate(sections, axis=-1), expected)
    for actual, expected in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(plain), strict=True
    ):
        assert_close(actual, expected, 1e-4)


def test_plan_of_the_public_discriminator() -> None:
    """Four of six layers run in sections on TPUs; the last one's have `merge_to` channels."""
    config = PRESETS["40k"].discriminator
    plan = ScaleDiscriminator(config, KERNEL_CONFIGS["tpu v5 lite"]).plan
    assert len(plan.layouts) == 4
    assert plan.layouts[-1].channels == 128 and plan.layouts[-1].factor == 1
    assert plan.block == 64
    assert ScaleDiscriminator(config, KERNEL_CONFIGS["gpu"]).plan.layouts == ()
