"""Frames, Fourier transforms, spectrograms and mel filters, in JAX.

Spectrograms are always float32: the logarithm would make noise of half-precision zeros.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from rvc_jax.config import AudioConfig, MelScale

_MAGNITUDE_FLOOR = 1e-6
_MEL_FLOOR = 1e-5

_CPU_RFFT_CAN_DEADLOCK = jax.__version_info__ >= (0, 11)
"""From 0.11 on, a transform on a CPU divides its rows among the threads of the pool it runs in,
and waits there: as many transforms at a time as there are threads wait forever
(openxla/xla#46347; seen in 0.11.2 and 0.12.0)."""
_UNDIVIDED_ROWS = 4
"""XLA never divides this few rows: it gives each thread two rows for every lane of a vector, and
vectors have at least four lanes."""


def spectrogram(wave: jax.Array, audio: AudioConfig | MelScale) -> jax.Array:
    """Compute magnitudes as HiFi-GAN and RVC do.

    Periodic Hann window, not centered; (n_fft - hop) / 2 samples are reflected at either end, and
    1e-6 is added under the root.

    Args:
      wave: [batch, samples], any float type.

    Returns: float32 [batch, samples // hop, bins].
    """
    margin = (audio.n_fft - audio.hop) // 2
    padded = jnp.pad(wave.astype(jnp.float32), ((0, 0), (margin, margin)), mode="reflect")
    spectrum = _sharded_rfft(
        frames(padded, audio.n_fft, audio.hop) * periodic_hann(audio.n_fft)
    )
    return jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + _MAGNITUDE_FLOOR)


def log_mel(magnitudes: jax.Array, audio: AudioConfig | MelScale) -> jax.Array:
    """Compute the log-mel spectrogram of magnitudes.

    Args:
      magnitudes: [batch, frames, bins].

    Returns: float32 [batch, frames, mels].
    """
    filters = mel_filters(
        audio.sample_rate, audio.n_fft, audio.n_mels, audio.f_min, audio.f_max
    )
    mel = jnp.matmul(
        magnitudes.astype(jnp.float32), filters, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.log(jnp.maximum(mel, _MEL_FLOOR))


def frames(audio: jax.Array, size: int, hop: int) -> jax.Array:
    """Split audio into overlapping frames; frame i starts at sample i * hop.

    The signal is reshaped into blocks of one hop, and a frame is a concatenation of neighboring
    blocks, so that XLA needs no gather.

    Args:
      audio: [batch, samples].
      size, hop: in samples.

    Returns: [batch, (samples - size) // hop + 1, size].

    Raises:
      ValueError: there are fewer than `size` samples.
    """
    if audio.shape[1] < size:
        raise ValueError(f"{audio.shape[1]} samples are less than one frame of {size}")
    count = (audio.shape[1] - size) // hop + 1
    blocks_per_frame = -(-size // hop)
    needed = (count + blocks_per_frame - 1) * hop
    missing = max(0, needed - audio.shape[1])
    audio = jnp.pad(audio, ((0, 0), (0, missing)))[:, :needed]
    blocks = audio.reshape(audio.shape[0], -1, hop)
    neighbors = [blocks[:, i : i + count] for i in range(blocks_per_frame)]
    return jnp.concatenate(neighbors, axis=-1)[..., :size]


def rfft(frames: jax.Array) -> jax.Array:
    """Transform real frames [..., size] over the last axis -> complex64 [..., size // 2 + 1].

    Replaces `jnp.fft.rfft`, which may deadlock on CPUs.
    """
    if not _CPU_RFFT_CAN_DEADLOCK:
        return jnp.fft.rfft(frames)
    return jax.lax.platform_dependent(frames, cpu=_rfft_in_small_batches, default=jnp.fft.rfft)


def _rfft_in_small_batches(frames: jax.Array) -> jax.Array:
    rows = frames.reshape(-1, frames.shape[-1])
    count = len(rows)
    if count <= _UNDIVIDED_ROWS:
        return jnp.fft.rfft(frames)
    rows = jnp.pad(rows, ((0, -count % _UNDIVIDED_ROWS), (0, 0)))
    spectra = jax.lax.map(jnp.fft.rfft, rows.reshape(-1, _UNDIVIDED_ROWS, rows.shape[1]))
    return spectra.reshape(-1, spectra.shape[-1])[:count].reshape(*frames.shape[:-1], -1)


def _sharded_rfft(frames: jax.Array) -> jax.Array:
    """`rfft` that keeps a batch divided among devices; XLA alone would gather it on all of them."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return rfft(frames)
    divided = PartitionSpec(mesh.axis_names)
    return jax.shard_map(rfft, in_specs=divided, out_specs=divided)(frames)


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None
) -> np.ndarray:
    """Make Slaney's mel filters, area-normalized: float32 [bins, mels]."""
    import librosa

    filters = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max
    )
    return filters.T.astype(np.float32)


@functools.cache
def periodic_hann(length: int) -> np.ndarray:
    """Make a periodic Hann window: float32 [length]; the sample after the last would be 0 again."""
    return np.hanning(length + 1)[:-1].astype(np.float32)
