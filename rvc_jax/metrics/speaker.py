"""Speaker embeddings that hardly depend on the words (GE2E, arXiv 1710.10467).

Port of the network of the PyPI package Resemblyzer 0.1.4 (Apache-2.0), with its weights: three LSTM
layers over mel spectrograms of pieces of 1.6 s. The package itself is not imported. Unlike there,
pauses are not cut out: recordings that are compared here have them at the same places.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, mel_filters, periodic_hann, rfft
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.features.framing import check_batch
from rvc_jax.features.nn import Parameters, convert_state_dict, linear, lstm
from rvc_jax.weights import store, torch_file

WEIGHTS = "resemblyzer"
INSTALL_HINT = (
    "`rvc-jax download resemblyzer` brings the model that it is measured with (17 MB)"
)
CHANNELS = 256

_WINDOW = 400
_MELS = 40
_LAYERS = 3
_PIECE = 160  # frames
_PIECE_STEP = 77
_MIN_PIECE = 120
"""Frames that must be there for another piece than the first."""
_LEVEL = 10 ** (-30 / 20)
"""Quieter audio is amplified to this root mean square."""


class SpeakerEncoder:
    """Computes speaker embeddings of 16 kHz audio."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        """Make an encoder from Resemblyzer's state dict.

        Raises:
          UserError: the state dict is another one.
        """
        trial = (np.zeros((1, _PIECE, _MELS), np.float32),)
        what = "the weights of Resemblyzer"
        self._parameters = convert_state_dict(from_state_dict, state, _embed, trial, what)

    @classmethod
    def find(cls) -> SpeakerEncoder | None:
        """Find the weights on this machine, downloaded or in the package Resemblyzer.

        None if there are none.
        """
        path = store.find(WEIGHTS)
        if path is None:
            return None
        content = torch_file.read(path)
        state = content.get("model_state") if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping):
            raise UserError(f"{path} does not hold the weights of Resemblyzer")
        return cls(state)

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Compute the embedding of every row.

        The cosine similarity of two embeddings, their product, is about 0.6 for two people and
        above 0.8 for two recordings of one.

        Args:
          audio: [batch, samples] at 16 kHz, samples a multiple of 320.
          lengths: int [batch], samples of each row; whole rows if not given.

        Returns: float32 [batch, 256] of length 1.
        """
        return np.asarray(_embeddings(self._parameters, *check_batch(audio, lengths)))


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert PyTorch's LSTM layers, whose two biases are added, and the dense layer behind."""
    parameters = {
        "linear.kernel": state["linear.weight"].T,
        "linear.bias": state["linear.bias"],
    }
    for i in range(_LAYERS):
        parameters[f"lstm.{i}.input.kernel"] = state[f"lstm.weight_ih_l{i}"].T
        parameters[f"lstm.{i}.recurrent.kernel"] = state[f"lstm.weight_hh_l{i}"].T
        bias = state[f"lstm.bias_ih_l{i}"] + state[f"lstm.bias_hh_l{i}"]
        parameters[f"lstm.{i}.bias"] = bias
    return parameters


@jax.jit
def _embeddings(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean embedding of the pieces of every row."""
    inside = jnp.arange(audio.shape[1]) < lengths[:, None]
    audio = jnp.where(inside, audio, 0.0)
    level = jnp.sqrt(jnp.sum(jnp.square(audio), axis=1) / lengths)
    gain = jnp.maximum(_LEVEL / jnp.maximum(level, 1e-9), 1.0)
    mels = _mel_power(audio * gain[:, None])
    available = lengths // FEATURE_HOP + 1
    is_available = jnp.arange(mels.shape[1]) < available[:, None]
    mels = jnp.where(is_available[..., None], mels, 0.0)
    mels = jnp.pad(mels, ((0, 0), (0, _PIECE), (0, 0)))
    starts = range(0, max(1, audio.shape[1] // FEATURE_HOP + 2 - _MIN_PIECE), _PIECE_STEP)
    pieces = jnp.stack([mels[:, start : start + _PIECE] for start in starts], axis=1)
    embedded = _embed(parameters, pieces.reshape(-1, _PIECE, _MELS))
    embedded = embedded.reshape(*pieces.shape[:2], CHANNELS)
    start = jnp.array(starts)
    is_long = lengths[:, None] - start * FEATURE_HOP >= _MIN_PIECE * FEATURE_HOP
    counts = (start == 0) | is_long
    return _normalize(jnp.sum(embedded * counts[..., None], axis=1))


def _mel_power(audio: jax.Array) -> jax.Array:
    """Mel power spectrogram [batch, frames, 40]; frame i is centered on sample 160 * i."""
    padded = jnp.pad(audio, ((0, 0), (_WINDOW // 2, _WINDOW // 2)))
    spectrum = rfft(frames(padded, _WINDOW, FEATURE_HOP) * periodic_hann(_WINDOW))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(FEATURE_RATE, _WINDOW, _MELS, 0.0, None)
    return jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST)


def _embed(parameters: Parameters, mels: jax.Array) -> jax.Array:
    """Mels of pieces [batch, 160, 40] -> embeddings [batch, 256] of length 1."""
    with jax.default_matmul_precision("float32"):
        x = jnp.swapaxes(mels, 0, 1)
        start = jnp.zeros((x.shape[1], CHANNELS))
        for i in range(_LAYERS):
            x, _ = lstm(parameters, f"lstm.{i}", x, (start, start))
        return _normalize(jax.nn.relu(linear(parameters, "linear", x[-1])))


def _normalize(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
