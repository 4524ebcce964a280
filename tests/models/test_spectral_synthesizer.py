"""The voice model of the small preset: its halves, its segments, what a sample depends on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import draw
from micro import MICRO_SMALL

from rvc_jax.config import PRESETS
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer

SMALL = PRESETS["small"]
HOP = SMALL.audio.hop
REACH = 36
"""Frames on either side that a sample depends on: 18 of the content's blocks, 12 of the frames'
blocks, 3 of the steps' blocks, and two windows of four steps."""
END_REACH = 18
"""The same without the content's blocks, which padding is masked for."""


FRAMES = 144


@pytest.fixture(scope="module")
def small() -> tuple[Network, dict]:
    """A voice whose gains depend on everything, as a fresh one's hardly do."""
    network = build_synthesizer(SMALL.generator, SMALL.audio)
    parameters = dict(network.init(0))
    parameters["dec.gains.weight"] = 5 * parameters["dec.gains.weight"]
    return network, parameters


@pytest.fixture(scope="module")
def infer(small: tuple[Network, dict]) -> Callable[..., np.ndarray]:
    """`infer` by names, compiled once for all tests."""
    network, parameters = small
    compiled = jax.jit(lambda inputs: network(parameters, "infer", **inputs))
    return lambda **inputs: np.asarray(compiled(inputs))


def make_inputs(frames: int = FRAMES, seed: int = 0) -> dict[str, jax.Array]:
    """Every frame of the pitch has whole cycles, so that each begins with phase 0."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((1, frames // 2, SMALL.generator.content_channels))
    return {
        "content": jnp.asarray(np.repeat(rows, 2, axis=1), jnp.float32),
        "lengths": jnp.full(1, frames),
        "pitch": jnp.zeros((1, frames), jnp.int32),
        "f0": jnp.asarray(100.0 * random.integers(0, 4, (1, frames)), jnp.float32),
        "speaker": jnp.array([3]),
        "source_noise": draw(1, frames * HOP),
        "phase": jnp.zeros(1),
    }


def test_its_size(small: tuple[Network, dict]) -> None:
    network, _ = small
    assert sum(np.prod(shape) for shape in network.shapes.values()) == 2_691_683


def test_both_halves_are_the_whole(
    small: tuple[Network, dict], infer: Callable[..., np.ndarray]
) -> None:
    """And the speaker may be given by his embedding."""
    network, parameters = small
    inputs = make_inputs() | {"phase": jnp.array([0.4])}

    @jax.jit
    def both_halves(inputs: dict[str, jax.Array], embedding: jax.Array) -> tuple:
        lengths = inputs["lengths"]
        halves = network(parameters, "prior", inputs["content"], lengths, inputs["pitch"])
        rest = {name: inputs[name] for name in ("f0", "source_noise", "phase")}
        wave = network(
            parameters, "render", *halves, lengths, speaker=embedding, noise=None, **rest
        )
        return *halves, wave

    mean, deviation, wave = both_halves(inputs, parameters["emb_g.weight"][3:4])
    assert mean.shape == (1, FRAMES, SMALL.generator.inter_channels)
    assert mean.dtype == jnp.float32 and not np.asarray(deviation).any()
    np.testing.assert_allclose(wave, infer(**inputs), atol=1e-5)


def test_a_segment_is_a_slice_of_the_whole(
    small: tuple[Network, dict], infer: Callable[..., np.ndarray]
) -> None:
    """In its middle, which knows nothing of its edges, for even and odd first frames."""
    network, parameters = small
    frames = SMALL.audio.segment_frames
    inputs = make_inputs()
    key = jax.random.key(7)

    @jax.jit
    def train_segment(start: jax.Array) -> tuple[jax.Array, None]:
        rows = inputs["content"][:, ::2]
        ignored = jnp.zeros((1, FRAMES, 1))
        arguments = (inputs["lengths"], inputs["pitch"], inputs["f0"], ignored)
        return network(
            parameters, "train_segment", rows, *arguments, inputs["speaker"], start, key
        )

    drawn = jax.random.normal(key, (1, frames * HOP))
    for start in (20, 31):
        segment, latents = train_segment(jnp.array([start]))
        assert latents is None and segment.shape == (1, frames * HOP)
        own = slice(start * HOP, (start + frames) * HOP)
        noise = jnp.zeros((1, FRAMES * HOP)).at[:, own].set(drawn)
        whole = infer(**(inputs | {"source_noise": noise}))[0, own]
        middle = slice(REACH * HOP, (frames - REACH) * HOP)
        error = np.abs(np.asarray(segment[0]) - whole)
        assert error[middle].max() < 1e-4 * np.abs(whole).max()
        assert error.max() > 1e-2 * np.abs(whole).max(), "its edges are those of a recording"


def test_what_a_sample_depends_on(infer: Callable[..., np.ndarray]) -> None:
    """Less than the context that chunks of a conversion have on either side."""
    assert REACH < CONTEXT_FRAMES
    inputs = make_inputs()
    content = inputs["content"].at[:, 72].add(1.0)
    change = infer(**(inputs | {"content": content})) - infer(**inputs)
    reached = np.flatnonzero(np.abs(change)[0].reshape(FRAMES, HOP).max(axis=1))
    assert 72 - REACH <= reached.min() < 72 - 30
    assert 72 + 30 < reached.max() <= 72 + REACH


def test_padding_changes_nothing_before_the_end(infer: Callable[..., np.ndarray]) -> None:
    length = 100
    inputs = make_inputs() | {"lengths": jnp.array([length])}
    padded = infer(**inputs)
    other = make_inputs(seed=1)
    mixed = dict(inputs)
    for name in ("content", "f0"):
        parts = (inputs[name][:, :length], other[name][:, length:])
        mixed[name] = jnp.concatenate(parts, axis=1)
    changed = infer(**mixed)
    cut = {name: inputs[name][:, :length] for name in ("content", "f0", "pitch")}
    cut["source_noise"] = inputs["source_noise"][:, : length * HOP]
    alone = infer(**(inputs | cut))
    inner = slice(0, (length - END_REACH) * HOP)
    np.testing.assert_allclose(changed[0, inner], padded[0, inner], atol=1e-6)
    np.testing.assert_allclose(alone[0, inner], padded[0, inner], atol=1e-5)


def test_bfloat16_follows_float32(infer: Callable[..., np.ndarray]) -> None:
    inputs = make_inputs()
    full = infer(**inputs)
    half = infer(**(inputs | {"content": inputs["content"].astype(jnp.bfloat16)}))
    assert half.dtype == np.float32
    assert np.linalg.norm(full - half) / np.linalg.norm(full) < 0.05


def test_every_parameter_has_a_gradient() -> None:
    network = build_synthesizer(MICRO_SMALL.generator, MICRO_SMALL.audio)
    inputs = make_inputs(24)
    gradient = jax.jit(
        jax.grad(lambda params: jnp.mean(jnp.square(network(params, "infer", **inputs))))
    )(network.init(0))
    assert all(np.isfinite(value).all() and np.any(value) for value in gradient.values())
