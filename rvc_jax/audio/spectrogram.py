"""Spectrogram and log-mel of the losses, in JAX. Always float32: the logarithm makes noise of
half-precision zeros."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from rvc_jax.audio.fourier import rfft
from rvc_jax.config import AudioConfig

_MAGNITUDE_FLOOR = 1e-6
_MEL_FLOOR = 1e-5


def spectrogram(wave: jax.Array, audio: AudioConfig) -> jax.Array:
    """Magnitudes of wave [batch, samples] -> [batch, samples // hop, bins], float32.

    As in HiFi-GAN and RVC: periodic Hann window, no centring, (n_fft - hop) / 2 samples reflected
    at either end, a floor under the root.
    """
    margin = (audio.n_fft - audio.hop) // 2
    padded = jnp.pad(wave.astype(jnp.float32), ((0, 0), (margin, margin)), mode="reflect")
    spectrum = _sharded_rfft(
        frames(padded, audio.n_fft, audio.hop) * periodic_hann(audio.n_fft)
    )
    return jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + _MAGNITUDE_FLOOR)


def _sharded_rfft(frames: jax.Array) -> jax.Array:
    """Over the last axis. A batch that is divided among devices stays so: XLA alone would gather it
    on all of them."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return rfft(frames)
    divided = PartitionSpec(mesh.axis_names)
    return jax.shard_map(rfft, in_specs=divided, out_specs=divided)(frames)


def frames(audio: jax.Array, size: int, hop: int) -> jax.Array:
    """Overlapping frames [batch, n, size] of audio [batch, samples]: frame i starts at sample i *
    hop.

    There are n = (samples - size) // hop + 1, all that fit. The signal is cut into blocks of one
    hop, and a frame is made of neighbouring blocks: nothing is gathered. Raises ValueError if not
    even one fits.
    """
    if audio.shape[1] < size:
        raise ValueError(f"{audio.shape[1]} samples are less than one frame of {size}")
    count = (audio.shape[1] - size) // hop + 1
    blocks_per_frame = -(-size // hop)
    needed = (count + blocks_per_frame - 1) * hop
    audio = jnp.pad(audio, ((0, 0), (0, max(0, needed - audio.shape[1]))))[:, :needed]
    blocks = audio.reshape(audio.shape[0], -1, hop)
    return jnp.concatenate(
        [blocks[:, i : i + count] for i in range(blocks_per_frame)], axis=-1
    )[..., :size]


def log_mel(magnitudes: jax.Array, audio: AudioConfig) -> jax.Array:
    """Log-mel of magnitudes [batch, frames, bins] -> [batch, frames, mels], float32."""
    filters = mel_filters(
        audio.sample_rate, audio.n_fft, audio.n_mels, audio.f_min, audio.f_max
    )
    mel = jnp.matmul(
        magnitudes.astype(jnp.float32), filters, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.log(jnp.maximum(mel, _MEL_FLOOR))


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None
) -> np.ndarray:
    """Slaney's mel filters, area-normalised -> [bins, mels]."""
    import librosa

    return librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max
    ).T.astype(np.float32)


@functools.cache
def periodic_hann(length: int) -> np.ndarray:
    """Hann's window of so many samples, the next of which would be 0 again; float32."""
    return np.hanning(length + 1)[:-1].astype(np.float32)
