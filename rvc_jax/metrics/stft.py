"""Multi-resolution STFT distance of rendered speech to its target, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, periodic_hann, rfft

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""(transform, hop, window) in samples of the three spectrograms, as in Parallel WaveGAN (arXiv
1910.11480)."""
_POWER_FLOOR = 1e-7


def stft_distance(rendered: jax.Array, target: jax.Array, samples: jax.Array) -> jax.Array:
    """Compute the multi-resolution STFT loss of Parallel WaveGAN for every row by itself.

    Spectral convergence plus the mean absolute difference of log magnitudes, averaged over
    `RESOLUTIONS`. Frames are centered; zeros surround a row.

    Args:
      rendered, target: [batch, time].
      samples: int [batch]; each row is compared over its first `samples`.

    Returns: [batch].
    """
    inside = jnp.arange(target.shape[1]) < samples[:, None]
    waves = [jnp.where(inside, wave, 0.0).astype(jnp.float32) for wave in (rendered, target)]
    distances = jnp.zeros(len(target))
    for transform, hop, window in RESOLUTIONS:
        ours, theirs = (_magnitudes(wave, transform, hop, window) for wave in waves)
        valid = (jnp.arange(theirs.shape[1]) * hop <= samples[:, None])[..., None]
        error = jnp.sum(jnp.square(theirs - ours) * valid, axis=(1, 2))
        convergence = jnp.sqrt(error / jnp.sum(jnp.square(theirs) * valid, axis=(1, 2)))
        logs = jnp.sum(jnp.abs(jnp.log(theirs) - jnp.log(ours)) * valid, axis=(1, 2))
        distances += convergence + logs / (jnp.sum(valid, axis=(1, 2)) * theirs.shape[2])
    return distances / len(RESOLUTIONS)


def _magnitudes(wave: jax.Array, transform: int, hop: int, window: int) -> jax.Array:
    """[batch, samples] -> [batch, samples // hop + 1, bins]."""
    margin = (transform - window) // 2
    taper = np.pad(periodic_hann(window), (margin, transform - window - margin))
    padded = jnp.pad(wave, ((0, 0), (transform // 2, transform // 2)))
    spectrum = rfft(frames(padded, transform, hop) * taper)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.sqrt(jnp.maximum(power, _POWER_FLOOR))
