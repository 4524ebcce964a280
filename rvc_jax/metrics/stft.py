"""How far a rendered voice is from the real one, in numbers, and the one number that voices are
ranked by."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.fourier import rfft
from rvc_jax.audio.spectrogram import frames, periodic_hann
from rvc_jax.config import BestBy

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""Transform, hop and window in samples of the three spectrograms (Parallel WaveGAN, arXiv
1910.11480)."""
_POWER_FLOOR = 1e-7

METRIC_NAMES = ("mel", "stft", "f0_cents", "voicing_error", "similarity")
"""Log-mel error, distance of spectrograms, error of the pitch, share of frames that are voiced in
one only, cosine of speaker embeddings. All but the last are better when lower."""


def stft_distance(rendered: jax.Array, target: jax.Array, samples: jax.Array) -> jax.Array:
    """Multi-resolution STFT distance of waves [batch, time], each over its first `samples` [batch]
    -> [batch].

    Spectral convergence plus the mean difference of log magnitudes, averaged over `RESOLUTIONS`:
    the loss of Parallel WaveGAN, for every row by itself. Frames are centred, with zeros around the
    row.
    """
    inside = jnp.arange(target.shape[1]) < samples[:, None]
    waves = [jnp.where(inside, wave, 0.0).astype(jnp.float32) for wave in (rendered, target)]
    distances = []
    for transform, hop, window in RESOLUTIONS:
        ours, theirs = (_magnitudes(wave, transform, hop, window) for wave in waves)
        valid = (jnp.arange(theirs.shape[1]) * hop <= samples[:, None])[..., None]
        error = jnp.sum(jnp.square(theirs - ours) * valid, axis=(1, 2))
        convergence = jnp.sqrt(error / jnp.sum(jnp.square(theirs) * valid, axis=(1, 2)))
        logs = jnp.sum(jnp.abs(jnp.log(theirs) - jnp.log(ours)) * valid, axis=(1, 2))
        distances.append(convergence + logs / (jnp.sum(valid, axis=(1, 2)) * theirs.shape[2]))
    return sum(distances) / len(RESOLUTIONS)


def _magnitudes(wave: jax.Array, transform: int, hop: int, window: int) -> jax.Array:
    """[batch, samples] -> [batch, samples // hop + 1, bins]."""
    margin = (transform - window) // 2
    taper = np.pad(periodic_hann(window), (margin, transform - window - margin))
    padded = jnp.pad(wave, ((0, 0), (transform // 2, transform // 2)))
    spectrum = rfft(frames(padded, transform, hop) * taper)
    return jnp.sqrt(
        jnp.maximum(jnp.square(spectrum.real) + jnp.square(spectrum.imag), _POWER_FLOOR)
    )


def pitch_error_metrics(
    rendered: np.ndarray, target: np.ndarray, valid: np.ndarray
) -> dict[str, float]:
    """Of f0 [batch, frames] in Hz, 0 = unvoiced, over the frames that are valid [batch, frames].

    `voicing_error`: share of frames that are voiced in one only. `f0_cents`: root of the mean
    squared difference over the frames that are voiced in both; it is left out if there is none.
    """
    both = (rendered > 0) & (target > 0) & valid
    figures = {"voicing_error": float(np.mean((rendered > 0)[valid] != (target > 0)[valid]))}
    if both.any():
        cents = 1200 * np.log2(rendered[both] / target[both])
        figures["f0_cents"] = float(np.sqrt(np.mean(np.square(cents))))
    return figures


def ranking_score(figures: Mapping[str, float], by: BestBy) -> float:
    """What voices are ranked by: lower is better; infinite without the figure. Terms as in
    `TrainConfig`."""
    mel, stft, cents, voicing = (
        figures.get(name, math.inf) for name in ("mel", "stft", "f0_cents", "voicing_error")
    )
    similarity = figures.get("similarity", -math.inf)
    together = mel + stft + cents / 100 + voicing
    value = {"mel": mel, "stft": stft, "similarity": 1 - similarity, "score": together}[by]
    return math.inf if math.isnan(value) else value


def format_metrics(figures: Mapping[str, float]) -> str:
    """Figures of a voice, to be read in one line."""
    return ", ".join(
        format_metric(name, figures[name]) for name in METRIC_NAMES if name in figures
    )


def format_metric(name: str, value: float) -> str:
    """One of `METRIC_NAMES` with its name and unit."""
    return {
        "mel": f"log-mel error {value:.3f}",
        "stft": f"STFT distance {value:.3f}",
        "f0_cents": f"pitch error {value:.0f} cents",
        "voicing_error": f"voicing errors {100 * value:.1f} %",
        "similarity": f"speaker similarity {value:.3f}",
    }[name]
