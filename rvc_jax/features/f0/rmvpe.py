"""RMVPE (arXiv 2306.15412), RVC's default pitch extractor: framing and decoding around its
network."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, periodic_hann, rfft
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE
from rvc_jax.features.f0 import rmvpe_network as network
from rvc_jax.features.f0.decoding import local_average_pitch
from rvc_jax.features.framing import check_batch, pad_rows_reflect
from rvc_jax.features.nn import Parameters, convert_state_dict
from rvc_jax.weights import store, torch_file

VOICED_SALIENCE = 0.03
"""RVC's threshold: frames with no salience above it are unvoiced."""
CENTS = (20.0 * np.arange(network.BINS) + 1997.3794084376191).astype(np.float32)
"""The candidates' pitch in cents above 10 Hz."""

_N_FFT = 1024
_MIN_HZ = 30.0
_MAX_HZ = 8000.0
_MEL_FLOOR = 1e-5


class RmvpePitch:
    """The pitch extractor "rmvpe"; see `features.f0.PitchExtractor`."""

    name = "rmvpe"

    def __init__(self, state: Mapping[str, np.ndarray], weights_fingerprint: str) -> None:
        """Make an extractor from the public checkpoint's state dict.

        Raises:
          UserError: it is not one of RMVPE.
        """
        trial = (np.zeros((1, 32, network.MEL_BANDS), np.float32), np.array([32]))
        self.parameters = convert_state_dict(
            network.from_state_dict, state, network.salience, trial, "RMVPE's weights"
        )
        # Features are cached by this hash: its text must not change.
        settings = f"{weights_fingerprint} {VOICED_SALIENCE}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()

    @classmethod
    def load(cls) -> RmvpePitch:
        """Load the public weights, downloaded if needed.

        Raises:
          UserError: they cannot be downloaded.
        """
        path = store.path("rmvpe")
        return cls(torch_file.read(path), store.fingerprint(path))

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; see `features.f0.PitchExtractor`."""
        return np.asarray(_pitch(self.parameters, *check_batch(audio, lengths)))


@jax.jit
def _pitch(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    found = salience(parameters, audio, lengths)
    pitch = local_average_pitch(found, jnp.asarray(CENTS), VOICED_SALIENCE)[:, :-1]
    inside = jnp.arange(pitch.shape[1]) < lengths[:, None] // FEATURE_HOP
    return jnp.where(inside, pitch, 0.0)


def salience(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Compute the salience of the pitch candidates, 0..1.

    As in the public implementation, a row's spectrogram has one frame more than the pitch, and
    zeros behind it up to a multiple of 32 frames.

    Args:
      audio: [batch, samples], rows end at `lengths` [batch].

    Returns: [batch, samples // 160 + 1, 360].
    """
    count = audio.shape[1] // FEATURE_HOP + 1
    own = lengths // FEATURE_HOP + 1
    with jax.default_matmul_precision("float32"):
        inside = jnp.arange(count)[:, None] < own[:, None, None]
        mel = jnp.where(inside, log_mel(audio, lengths), 0.0)
        mel = jnp.pad(mel, ((0, 0), (0, -count % network.MULTIPLE), (0, 0)))
        ends = own + -own % network.MULTIPLE
        return network.salience(parameters, mel, ends)[:, :count]


def log_mel(audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Compute RMVPE's input: audio [batch, samples] -> [batch, samples // 160 + 1, 128].

    Frame i is centered on sample 160 * i.
    """
    padded = pad_rows_reflect(audio, lengths, _N_FFT // 2, _N_FFT // 2)
    framed = frames(padded, _N_FFT, FEATURE_HOP)
    magnitudes = jnp.abs(rfft(framed * periodic_hann(_N_FFT)))
    return jnp.log(jnp.maximum(magnitudes @ _mel_filters(), _MEL_FLOOR))


@functools.cache
def _mel_filters() -> np.ndarray:
    """Filters on HTK's mel scale, but area-normalized like Slaney's: [bins, mels]."""
    import librosa

    filters = librosa.filters.mel(
        sr=FEATURE_RATE,
        n_fft=_N_FFT,
        n_mels=network.MEL_BANDS,
        fmin=_MIN_HZ,
        fmax=_MAX_HZ,
        htk=True,
    )
    return filters.T.astype(np.float32)
