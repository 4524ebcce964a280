"""The losses of HiFi-GAN (arXiv 2010.05646) and VITS (arXiv 2106.06103), all in float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import jax
import jax.numpy as jnp

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import AudioConfig
from rvc_jax.models.discriminator import DiscriminatorOutput
from rvc_jax.models.synthesizer import Latents

Outputs = Sequence[DiscriminatorOutput]
"""One output per sub-discriminator."""


def discriminator_loss(real: Outputs, fake: Outputs) -> jax.Array:
    """Least squares: real scores towards 1, fake ones towards 0 (LSGAN, arXiv 1611.04076)."""
    return _discriminator_loss([score for score, _ in real], [score for score, _ in fake])


def interleaved_discriminator_loss(outputs: Outputs) -> jax.Array:
    """`discriminator_loss` of one batch in which real and fake waves alternate."""
    # [2 * batch, positions] -> [batch, 2, positions]
    scores = [score.reshape(score.shape[0] // 2, 2, -1) for score, _ in outputs]
    return _discriminator_loss(
        [score[:, 0] for score in scores], [score[:, 1] for score in scores]
    )


def generator_loss(fake: Outputs) -> jax.Array:
    """Adversarial loss of the generator, least squares: fake scores towards 1."""
    return _sum(_mean(jnp.square(1 - score.astype(jnp.float32))) for score, _ in fake)


def feature_loss(real: Outputs, fake: Outputs) -> jax.Array:
    """Feature matching: mean absolute difference of every feature map, summed over maps.

    The real maps are constants.
    """
    return _sum(_mean(jnp.abs(r - f)) / parts for r, f, parts in _map_pairs(real, fake))


def probed_feature_loss(real: Outputs, fake: Outputs, probe: jax.Array) -> jax.Array:
    """Return 0, with the gradients of `probe * feature_loss(real, fake)`.

    Gradient w.r.t. `fake`: that of `probe * feature_loss`. Gradient w.r.t. `probe`, a scalar: the
    loss itself. The backward pass reads the maps anyway and yields the loss on its way; no other
    pass over them is needed.
    """
    return _sum(_probed_distance(f, r, probe) / parts for r, f, parts in _map_pairs(real, fake))


def mel_targets(wave: jax.Array, audio: AudioConfig) -> tuple[jax.Array, ...]:
    """Return the log-mels of waves [batch, samples], one array per scale of the mel loss."""
    return tuple(log_mel(spectrogram(wave, scale), scale) for scale in audio.loss_scales)


def mel_loss(wave: jax.Array, targets: tuple[jax.Array, ...], audio: AudioConfig) -> jax.Array:
    """Mean absolute difference of the log-mels of waves [batch, samples], averaged over scales.

    Several scales follow Parallel WaveGAN (arXiv 1910.11480).

    targets: those of the real waves, as `mel_targets` returns them.
    """
    rendered = mel_targets(wave, audio)
    differences = [jnp.mean(jnp.abs(r - t)) for r, t in zip(rendered, targets, strict=True)]
    if len(differences) == 1:
        return differences[0]
    return _sum(differences) / len(differences)


def kl_loss(latents: Latents) -> jax.Array:
    """KL divergence of the posterior from the prior, by a sample of the posterior.

    Summed over channels, averaged over the valid frames.
    """
    deviation = jnp.square(latents.mapped - latents.prior_mean) * jnp.exp(
        -2.0 * latents.prior_log_deviation
    )
    kl = latents.prior_log_deviation - latents.posterior_log_deviation - 0.5 + 0.5 * deviation
    return jnp.sum(kl * latents.mask) / jnp.sum(latents.mask)


def _discriminator_loss(real: list[jax.Array], fake: list[jax.Array]) -> jax.Array:
    terms = []
    for r, f in zip(real, fake, strict=True):
        real_term = _mean(jnp.square(1 - r.astype(jnp.float32)))
        fake_term = _mean(jnp.square(f.astype(jnp.float32)))
        terms.append(real_term + fake_term)
    return _sum(terms)


def _map_pairs(real: Outputs, fake: Outputs) -> Iterator[tuple[jax.Array, jax.Array, int]]:
    """Yield parts of real and fake maps in float32, and the number of parts of their map."""
    for (_, real_maps), (_, fake_maps) in zip(real, fake, strict=True):
        for real_map, fake_map in zip(real_maps, fake_maps, strict=True):
            for r, f in zip(real_map, fake_map, strict=True):
                real_part = jax.lax.stop_gradient(r).astype(jnp.float32)
                yield real_part, f.astype(jnp.float32), len(fake_map)


@jax.custom_vjp
def _probed_distance(fake: jax.Array, real: jax.Array, probe: jax.Array) -> jax.Array:
    """Return 0, with the gradients of `probe * mean(abs(fake - real))`."""
    return jnp.zeros(())


def _probed_distance_forward(
    fake: jax.Array, real: jax.Array, probe: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return jnp.zeros(()), (fake, real, probe)


def _probed_distance_backward(
    residuals: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, None, jax.Array]:
    fake, real, probe = residuals
    difference = fake - real
    fake_gradient = gradient * probe / fake.size * jnp.sign(difference)
    probe_gradient = gradient * _mean(jnp.abs(difference))
    return fake_gradient, None, probe_gradient


_probed_distance.defvjp(_probed_distance_forward, _probed_distance_backward)


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, dtype=jnp.float32)


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    """Add terms from left to right."""
    return cast("jax.Array", sum(terms))  # a number only if there are no terms
