"""Scores and feature maps of the discriminators."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import NANO, assert_close
from micro import MICRO_SMALL

from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import SLOPE, Discriminator
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


def test_a_spectrum_discriminator_equals_the_same_in_torch() -> None:
    """Log-magnitudes of reflected windows, then weight-normed convolutions over the frames."""
    torch = pytest.importorskip("torch")
    config = MICRO_SMALL.discriminator
    network = Network(Discriminator(dataclasses.replace(config, periods=())))
    parameters = network.init(3)
    wave = np.random.default_rng(0).standard_normal((2, 2560)).astype(np.float32)
    (output,) = network(parameters, "__call__", jnp.asarray(wave))
    (size,) = config.spectra
    hop = size // 4
    assert output.scores.shape == (2, 2560 // hop)
    assert [part[0].shape for part in output.feature_maps] == [
        (2, 2560 // hop, channels) for channels in (*config.spectrum_channels, 1)
    ]

    margin = (size - hop) // 2
    padded = torch.nn.functional.pad(torch.tensor(wave)[:, None], (margin, margin), "reflect")
    window = torch.hann_window(size)
    spectra = torch.stft(
        padded[:, 0], size, hop, window=window, center=False, return_complex=True
    )
    x = torch.log(torch.sqrt(spectra.abs() ** 2 + 1e-7) + 1e-3)
    public = {
        name: torch.tensor(value) for name, value in network.to_public(parameters).items()
    }
    names = [
        *(f"convs.{number}" for number in range(len(config.spectrum_channels))),
        "conv_post",
    ]
    for name in names:
        direction = public[f"discriminators.0.{name}.weight_v"]
        scale = public[f"discriminators.0.{name}.weight_g"]
        kernel = scale * direction / direction.norm(dim=(1, 2), keepdim=True)
        bias = public[f"discriminators.0.{name}.bias"]
        x = torch.nn.functional.conv1d(x, kernel, bias, padding="same")
        if name != "conv_post":
            x = torch.nn.functional.leaky_relu(x, SLOPE)
    np.testing.assert_allclose(output.scores, x[:, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_the_small_presets_discriminators() -> None:
    config = PRESETS["small"].discriminator
    network = Network(Discriminator(config))
    assert config.count == 7
    parts = {name.split(".")[1] for name in network.shapes}
    assert parts == {str(number) for number in range(config.count)}
    samples = PRESETS["small"].audio.segment_samples
    outputs = jax.eval_shape(
        lambda params, wave: network(params, "__call__", wave),
        {
            name: jax.ShapeDtypeStruct(shape, "float32")
            for name, shape in network.shapes.items()
        },
        jax.ShapeDtypeStruct((2, samples), "float32"),
    )
    assert [output.scores.shape for output in outputs[-3:]] == [
        (2, samples * 4 // size) for size in config.spectra
    ]


def test_silence_has_a_finite_gradient() -> None:
    """Magnitudes of digital silence are 0, where a root and a logarithm have none."""
    network = Network(Discriminator(MICRO_SMALL.discriminator))
    parameters = network.init(0)

    def score(wave: jax.Array) -> jax.Array:
        outputs = network(parameters, "__call__", wave)
        return sum(jnp.sum(output.scores) for output in outputs)

    gradient = jax.jit(jax.grad(score))(jnp.zeros((1, 1280)))
    assert np.isfinite(gradient).all()
