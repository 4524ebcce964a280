"""The terms of the two losses, all float32 (HiFi-GAN, arXiv 2010.05646; VITS, arXiv 2106.06103)."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from rvc_jax.models.discriminator import DiscriminatorOutput
from rvc_jax.models.synthesizer import Latents


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, dtype=jnp.float32)


def discriminator_loss(
    real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]
) -> jax.Array:
    """Least squares: real scores towards 1, fake ones towards 0 (LSGAN, arXiv 1611.04076)."""
    terms = [
        _mean(jnp.square(1 - r.astype(jnp.float32))) + _mean(jnp.square(f.astype(jnp.float32)))
        for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    return sum(terms)


def generator_loss(fake: list[DiscriminatorOutput]) -> jax.Array:
    """Fake scores towards 1."""
    return sum(_mean(jnp.square(1 - score.astype(jnp.float32))) for score, _ in fake)


def feature_loss(real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]) -> jax.Array:
    """Mean absolute difference of every feature map, summed over layers and discriminators; real
    maps are constants."""
    return sum(_mean(jnp.abs(r - f)) / count for r, f, count in _map_pairs(real, fake))


def probed_feature_loss(
    real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput], probe: jax.Array
) -> jax.Array:
    """Zero, whose gradient is that of probe * `feature_loss`; so the gradient by the probe is the
    loss.

    The gradient has to read the maps anyway: no other pass over them is taken for the loss.
    """
    return sum(_probed_distance(f, r, probe) / count for r, f, count in _map_pairs(real, fake))


def _map_pairs(
    real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]
) -> Iterator[tuple[jax.Array, jax.Array, int]]:
    """Parts of real and fake maps, in float32, and how many parts their map has."""
    for (_, real_maps), (_, fake_maps) in zip(real, fake, strict=True):
        for real_map, fake_map in zip(real_maps, fake_maps, strict=True):
            for r, f in zip(real_map, fake_map, strict=True):
                yield (
                    jax.lax.stop_gradient(r).astype(jnp.float32),
                    f.astype(jnp.float32),
                    len(fake_map),
                )


@jax.custom_vjp
def _probed_distance(fake: jax.Array, real: jax.Array, probe: jax.Array) -> jax.Array:
    return jnp.zeros(())


def _probed_distance_backward(
    kept: tuple, gradient: jax.Array
) -> tuple[jax.Array, None, jax.Array]:
    fake, real, probe = kept
    difference = fake - real
    return (
        gradient * probe / fake.size * jnp.sign(difference),
        None,
        gradient * _mean(jnp.abs(difference)),
    )


_probed_distance.defvjp(lambda *given: (jnp.zeros(()), given), _probed_distance_backward)


def kl_loss(latents: Latents) -> jax.Array:
    """Divergence of the posterior from the prior: summed over channels, averaged over the valid
    frames."""
    deviation = jnp.square(latents.mapped - latents.prior_mean) * jnp.exp(
        -2.0 * latents.prior_log_deviation
    )
    kl = latents.prior_log_deviation - latents.posterior_log_deviation - 0.5 + 0.5 * deviation
    return jnp.sum(kl * latents.mask) / jnp.sum(latents.mask)
