"""The whole voice model: sizes, shapes, padding and precision.

`tests/parity` has the golden values.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.config import PRESETS, GeneratorConfig
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer, slice_segments

NANO = PRESETS["nano"]


@pytest.fixture(scope="module")
def nano() -> tuple[Network, dict]:
    network = build_synthesizer(NANO.generator, NANO.audio)
    return network, network.init(0)


def make_inputs(frames: int) -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    content = random.standard_normal((1, frames, NANO.generator.content_channels))
    return {
        "content": jnp.asarray(content, jnp.float32),
        "lengths": jnp.full(1, frames),
        "pitch": jnp.asarray(random.integers(1, 256, (1, frames))),
        "f0": jnp.asarray(random.uniform(80, 300, (1, frames)), jnp.float32),
        "speaker": jnp.zeros(1, jnp.int32),
    }


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("32k", 36_880_706), ("40k", 36_458_818), ("48k", 37_638_466)],
)
def test_sizes_of_the_public_voices(preset: str, parameters: int) -> None:
    network = build_synthesizer(PRESETS[preset].generator, PRESETS[preset].audio)
    assert sum(np.prod(shape) for shape in network.shapes.values()) == parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_renders_a_hop_per_frame(preset: str) -> None:
    config = PRESETS[preset]
    network = build_synthesizer(config.generator, config.audio)
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in network.shapes.items()
    }
    content = jax.ShapeDtypeStruct((2, 20, config.generator.content_channels), jnp.float32)
    pitch = jax.ShapeDtypeStruct((2, 20), jnp.int32)
    f0 = jax.ShapeDtypeStruct((2, 20), jnp.float32)
    rows = jax.ShapeDtypeStruct((2,), jnp.int32)

    def infer(parameters: dict, *args: jax.Array) -> jax.Array:
        return network(parameters, "infer", *args)

    wave = jax.eval_shape(infer, shapes, content, rows, pitch, f0, rows)
    hop = config.audio.hop
    assert wave.shape == (2, 20 * hop)
    if isinstance(config.generator, GeneratorConfig):
        assert hop == np.prod(config.generator.upsample_rates)
    assert hop * 100 == config.audio.sample_rate


def test_version_1_has_narrow_content_and_fewer_periods() -> None:
    config = PRESETS["48k-v1"]
    network = build_synthesizer(config.generator, config.audio)
    assert network.public_shapes["enc_p.emb_phone.weight"] == (192, 256)
    assert network.public_shapes["dec.ups.4.weight_v"] == (32, 16, 4)
    assert config.discriminator.periods == (2, 3, 5, 7, 11, 17)


def test_padding_changes_nothing_before_it(nano: tuple[Network, dict]) -> None:
    """A window's rendering does not depend on what is beyond its length."""
    network, parameters = nano
    inputs = make_inputs(48)
    inputs["lengths"] = jnp.asarray([40])
    changed = dict(
        inputs,
        content=inputs["content"].at[:, 40:].add(3.0),
        pitch=inputs["pitch"].at[:, 40:].set(9),
    )
    render = jax.jit(lambda inputs: network(parameters, "infer", **inputs))
    np.testing.assert_allclose(render(inputs), render(changed), atol=1e-6)


def test_bfloat16_follows_float32(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    inputs = make_inputs(32)
    render = jax.jit(lambda inputs: network(parameters, "infer", **inputs))
    full = render(inputs)
    half = render(dict(inputs, content=inputs["content"].astype(jnp.bfloat16)))
    assert half.dtype == jnp.float32
    assert float(jnp.linalg.norm(full - half) / jnp.linalg.norm(full)) < 0.05


def test_segments_begin_where_their_windows_say() -> None:
    x = jnp.arange(2 * 10 * 3).reshape(2, 10, 3)
    segments = slice_segments(x, jnp.array([0, 6]), 4)
    np.testing.assert_array_equal(segments, np.stack([x[0, :4], x[1, 6:]]))
