"""Names, shapes and edges of the networks; golden values are test_parity's affair."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.config import PRESETS, KernelConfig
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.generator import sine_cycles
from rvc_jax.models.kernels.convolution import conv, conv_transpose
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import synthesizer

NANO = PRESETS["nano"]


@pytest.fixture(scope="module")
def nano() -> tuple[Network, dict]:
    network = synthesizer(NANO.generator, NANO.audio)
    return network, network.init(0)


def voice_inputs(frames: int, batch: int = 1, seed: int = 0) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    return {
        "content": jnp.asarray(
            random.standard_normal((batch, frames, NANO.generator.content_channels)),
            jnp.float32,
        ),
        "lengths": jnp.full(batch, frames),
        "pitch": jnp.asarray(random.integers(1, 256, (batch, frames))),
        "f0": jnp.asarray(random.uniform(80, 300, (batch, frames)), jnp.float32),
        "speaker": jnp.zeros(batch, jnp.int32),
    }


@pytest.mark.parametrize(
    ("preset", "parameters"), [("32k", 36_880_706), ("40k", 36_458_818), ("48k", 37_638_466)]
)  # rvc.md 2.1
def test_sizes_of_the_public_voices(preset: str, parameters: int) -> None:
    network = synthesizer(PRESETS[preset].generator, PRESETS[preset].audio)
    assert sum(np.prod(shape) for shape in network.shapes.values()) == parameters


def test_size_of_the_public_discriminator() -> None:
    assert (
        sum(
            np.prod(s)
            for s in Network(Discriminator(PRESETS["40k"].discriminator)).shapes.values()
        )
        == 71_410_594
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_renders_a_hop_per_frame(preset: str) -> None:
    config = PRESETS[preset]
    network = synthesizer(config.generator, config.audio)
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in network.shapes.items()
    }
    content = jax.ShapeDtypeStruct((2, 20, config.generator.content_channels), jnp.float32)
    integers = jax.ShapeDtypeStruct((2, 20), jnp.int32)
    f0 = jax.ShapeDtypeStruct((2, 20), jnp.float32)
    rows = jax.ShapeDtypeStruct((2,), jnp.int32)
    wave = jax.eval_shape(
        lambda *a: network(*a[:1], "infer", *a[1:]), shapes, content, rows, integers, f0, rows
    )
    assert wave.shape == (2, 20 * config.audio.hop)
    assert (
        config.audio.hop * 100
        == config.audio.sample_rate
        == 100 * np.prod(config.generator.upsample_rates)
    )


def test_version_1_has_narrow_content_and_fewer_periods() -> None:
    config = PRESETS["48k-v1"]
    network = synthesizer(config.generator, config.audio)
    assert network.public_shapes["enc_p.emb_phone.weight"] == (192, 256)
    assert network.public_shapes["dec.ups.4.weight_v"] == (32, 16, 4)
    assert config.discriminator.periods == (2, 3, 5, 7, 11, 17)


def test_public_state_dict_is_a_round_trip(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    public = network.to_public(parameters)
    assert {name: array.shape for name, array in public.items()} == network.public_shapes
    back = network.from_public(public)
    assert all(np.array_equal(back[name], parameters[name]) for name in parameters)


def test_wrong_state_dicts_are_named(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    public = network.to_public(parameters)
    missing = {name: array for name, array in public.items() if name != "dec.conv_pre.bias"}
    with pytest.raises(ValueError, match="dec.conv_pre.bias is missing"):
        network.from_public(missing)
    with pytest.raises(ValueError, match=r"emb_g.weight has shape \(3, 16\), not \(8, 16\)"):
        network.from_public(public | {"emb_g.weight": np.zeros((3, 16), np.float32)})
    with pytest.raises(ValueError, match="surplus is not part"):
        network.from_public(public | {"surplus": np.zeros(1, np.float32)})


def test_parameters_depend_on_seed_and_name_alone(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    again = network.init(0)
    other = network.init(1)
    assert all(np.array_equal(again[name], parameters[name]) for name in parameters)
    assert not np.array_equal(other["dec.conv_pre.weight"], parameters["dec.conv_pre.weight"])
    direction = parameters["dec.ups.0.weight_v"]
    np.testing.assert_allclose(
        parameters["dec.ups.0.weight_g"][0, 0], np.linalg.norm(direction, axis=(0, 1)), 1e-6
    )


@pytest.mark.parametrize(
    ("width", "stride"), [(16, 10), (16, 8), (4, 2), (24, 12), (20, 10), (3, 1), (32, 16)]
)
def test_conv_transpose_equals_its_definition(width: int, stride: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 7, 3))
    kernel = random.standard_normal((width, 5, 3))
    padding = (width - stride) // 2
    full = np.zeros((2, 6 * stride + width, 5))
    for frame in range(7):
        full[:, frame * stride : frame * stride + width] += np.einsum(
            "bi,koi->bko", x[:, frame], kernel
        )
    expected = full[:, padding : padding + 7 * stride]
    np.testing.assert_allclose(
        conv_transpose(jnp.asarray(x), jnp.asarray(kernel), stride), expected, atol=1e-5
    )


def test_padding_changes_nothing_before_it(nano: tuple[Network, dict]) -> None:
    """A window's rendering does not depend on what lies beyond its length."""
    network, parameters = nano
    inputs = voice_inputs(48)
    inputs["lengths"] = jnp.asarray([40])
    changed = dict(
        inputs,
        content=inputs["content"].at[:, 40:].add(3.0),
        pitch=inputs["pitch"].at[:, 40:].set(9),
    )
    render = jax.jit(lambda kw: network(parameters, "infer", **kw))
    np.testing.assert_allclose(render(inputs), render(changed), atol=1e-6)


def test_source_phase_is_continuous_between_calls() -> None:
    f0 = np.random.default_rng(0).uniform(80, 300, (1, 200)).astype(np.float32)
    f0[:, 50:80] = 0
    whole = np.asarray(sine_cycles(jnp.asarray(f0), 16000, 160))
    phase = np.array([np.mod(f0[0, :120].astype(np.float64).sum() / 100, 1.0)], np.float32)
    tail = np.asarray(sine_cycles(jnp.asarray(f0[:, 120:]), 16000, 160, jnp.asarray(phase)))
    difference = np.mod(tail - whole[:, 120 * 160 :] + 0.5, 1.0) - 0.5
    assert np.abs(difference).max() < 1e-3


def test_bfloat16_follows_float32(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    inputs = voice_inputs(32)
    render = jax.jit(lambda kw: network(parameters, "infer", **kw))
    full = render(inputs)
    half = render(dict(inputs, content=inputs["content"].astype(jnp.bfloat16)))
    assert half.dtype == jnp.float32
    assert float(jnp.linalg.norm(full - half) / jnp.linalg.norm(full)) < 0.05


def test_short_waves_are_judged(nano: tuple[Network, dict]) -> None:
    config = dataclasses.replace(NANO.discriminator, periods=(2, 3, 37))
    network = Network(Discriminator(config))
    judgements = network(network.init(0), "judge", jnp.ones((2, 5120)))
    assert [len(maps) for _, maps in judgements] == [5, 5, 5, 5]
    assert all(bool(jnp.all(jnp.isfinite(score))) for score, _ in judgements)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "time"), [(16, 64, 4, 101), (64, 64, 16, 40), (8, 8, 8, 64)]
)
def test_merged_groups_are_exact(inputs: int, outputs: int, groups: int, time: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, time, inputs)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((41, inputs // groups, outputs)), jnp.float32)

    def value_and_gradients(function: object) -> list[jax.Array]:
        y, vjp = jax.vjp(function, x, kernel)
        return [y, *vjp(jnp.cos(y))]

    plain = value_and_gradients(
        lambda x, w: jax.lax.conv_general_dilated(
            x,
            w,
            (4,),
            [(20, 20)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=groups,
        )
    )
    merged = value_and_gradients(
        lambda x, w: conv(x, w, 4, 20, 1, groups, KernelConfig(merge_to=16))
    )
    for expected, actual in zip(plain, merged, strict=True):
        assert float(jnp.linalg.norm(actual - expected) / jnp.linalg.norm(expected)) < 1e-5
