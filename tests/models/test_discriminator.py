"""Scores and feature maps of the discriminators."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import NANO, assert_close

from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.kernels.options import KERNEL_CONFIGS, REFERENCE, KernelConfig
from rvc_jax.models.parameters import Network


def test_size_of_the_public_discriminator() -> None:
    network = Network(Discriminator(PRESETS["40k"].discriminator))
    assert sum(np.prod(shape) for shape in network.shapes.values()) == 71_410_594


@pytest.mark.parametrize(
    "kernels",
    [
        KERNEL_CONFIGS["cpu"],
        KernelConfig(merge_to=128),
        KernelConfig("dilated", merge_to=128, fold_to=128),
        KernelConfig(merge_to=128, fold_to=256),
        KERNEL_CONFIGS["tpu v5 lite"],
    ],
)
@pytest.mark.parametrize(
    "preset", ["nano", "40k", pytest.param("48k", marks=pytest.mark.heavy)]
)
def test_outputs_equal_the_references(kernels: KernelConfig, preset: str) -> None:
    config = dataclasses.replace(PRESETS[preset].discriminator, periods=(2,))
    reference = Network(Discriminator(config, REFERENCE))
    network = Network(Discriminator(config, kernels))
    parameters = reference.init(0)
    samples = PRESETS[preset].audio.segment_samples
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((1, samples)), jnp.float32)
    plain = reference(parameters, "__call__", wave)
    outputs = network(parameters, "__call__", wave)
    for expected, actual in zip(plain, outputs, strict=True):
        assert_close(actual.scores, expected.scores)
        assert len(actual.feature_maps) == len(expected.feature_maps)
        maps = zip(expected.feature_maps, actual.feature_maps, strict=True)
        for (expected_map,), parts in maps:
            # In sections and folded, or not: [batch, time, channels] again.
            sections = [part.reshape(*expected_map.shape[:2], -1) for part in parts]
            assert_close(jnp.concatenate(sections, axis=-1), expected_map)


def test_short_waves() -> None:
    """A period of 37 leaves few positions of 5,120 samples."""
    config = dataclasses.replace(NANO.discriminator, periods=(2, 3, 37))
    network = Network(Discriminator(config))
    outputs = network(network.init(0), "__call__", jnp.ones((2, 5120)))
    assert [len(output.feature_maps) for output in outputs] == [5, 5, 5, 5]
    assert all(bool(jnp.all(jnp.isfinite(output.scores))) for output in outputs)


def test_one_sub_discriminator_alone() -> None:
    network = Network(Discriminator(NANO.discriminator))
    parameters = network.init(0)
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3200)), jnp.float32)
    outputs = network(parameters, "__call__", wave)
    for number, output in enumerate(outputs):
        alone = network(parameters, "run_one", number, wave)
        np.testing.assert_array_equal(alone.scores, output.scores)
