"""Comparisons that the tests of `rvc_jax.models` share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PRESETS
from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.models.kernels.packing import PackedNetwork
from rvc_jax.models.kernels.weight_norm import squared_norms
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer

NANO = PRESETS["nano"]


def assert_close(actual: jax.Array, expected: jax.Array, bound: float = 1e-5) -> None:
    """Bounds the largest difference by a share of the largest value."""
    scale = max(float(jnp.abs(expected).max()), 1e-3)
    error = float(jnp.abs(actual.reshape(expected.shape) - expected).max())
    assert error <= bound * scale


def draw(*shape: int, seed: int = 0) -> jax.Array:
    """Draws standard normal float32 values."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def render_and_grad(
    config: KernelConfig, with_known_norms: bool = False
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Renders a segment; returns it and the gradient of a loss of every output."""
    random = np.random.default_rng(0)
    frames = 40
    content = random.standard_normal((2, frames, NANO.generator.content_channels))
    inputs = (
        jnp.asarray(content, jnp.float32),
        jnp.array([frames, frames - 7]),
        jnp.asarray(random.integers(1, 256, (2, frames))),
        jnp.asarray(random.uniform(80, 300, (2, frames)), jnp.float32),
        jnp.asarray(
            random.uniform(0, 1, (2, frames, NANO.audio.spectrogram_bins)), jnp.float32
        ),
        jnp.zeros(2, jnp.int32),
        jnp.array([0, 1]),
        jax.random.key(0),
    )
    network = build_synthesizer(NANO.generator, NANO.audio, config)

    def loss(run: Callable) -> tuple[jax.Array, jax.Array]:
        wave, latents = run("train_segment", *inputs)
        total = jnp.mean(wave**2) + jnp.mean(latents.mapped**2)
        return total + jnp.mean(latents.prior_mean**2), wave

    return value_and_grad(network, loss, config.pack_parameters, with_known_norms)


def value_and_grad(
    network: Network,
    loss: Callable[[Callable], tuple[jax.Array, jax.Array]],
    packed: bool,
    with_known_norms: bool,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Differentiates a loss with respect to the parameters.

    loss: takes a function that runs a method of the network; returns the loss and another result.
    Returns the other result and the gradients by name. The kernels' norms are not those of their
    directions.
    """
    parameters = {
        name: 1.3 * value if name.endswith("weight_g") else value
        for name, value in network.init(0).items()
    }
    callee = PackedNetwork(network, jnp.dtype("float32")) if packed else network
    if isinstance(callee, PackedNetwork):
        parameters = callee.packing.pack(parameters)
    squares = squared_norms(parameters) if with_known_norms else None

    def loss_of(parameters: dict) -> tuple[jax.Array, jax.Array]:
        def run(method: str, *args: object) -> object:
            return callee(parameters, method, *args, squared_norms=squares)

        return loss(run)

    (_, result), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(parameters)
    if isinstance(callee, PackedNetwork):
        grads = callee.packing.unpack(grads)
    return result, grads
