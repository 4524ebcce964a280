"""The Fourier transform of frames, without the one that may wait for itself for ever."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_CPU_RFFT_CAN_DEADLOCK = jax.__version_info__ >= (0, 11)
"""Whether a transform on CPUs divides its rows among the threads of the pool that it runs in
itself, and waits for them there: as many at a time as there are threads wait for ever
(openxla/xla#46347; 0.11.2 and 0.12.0 have it)."""
_UNDIVIDED_ROWS = 4
"""So few rows are never divided: there have to be two for every lane of a vector, which has at
least four."""


def rfft(frames: jax.Array) -> jax.Array:
    """Of real frames [..., size], over the last axis -> complex64 [..., size // 2 + 1]."""
    if not _CPU_RFFT_CAN_DEADLOCK:
        return jnp.fft.rfft(frames)
    return jax.lax.platform_dependent(frames, cpu=_rfft_in_small_batches, default=jnp.fft.rfft)


def _rfft_in_small_batches(frames: jax.Array) -> jax.Array:
    rows = frames.reshape(-1, frames.shape[-1])
    count = len(rows)
    if count <= _UNDIVIDED_ROWS:
        return jnp.fft.rfft(frames)
    rows = jnp.pad(rows, ((0, -count % _UNDIVIDED_ROWS), (0, 0))).reshape(
        -1, _UNDIVIDED_ROWS, rows.shape[1]
    )
    spectra = jax.lax.map(jnp.fft.rfft, rows)
    return spectra.reshape(-1, spectra.shape[-1])[:count].reshape(*frames.shape[:-1], -1)
