"""Who speaks: an embedding of a voice that hardly depends on the words (GE2E, arXiv 1710.10467).

Port of the network of the PyPI package Resemblyzer 0.1.4 (Apache-2.0), on its weights: three LSTM
layers over mels of pieces of 1.6 s. The package itself is not imported. Unlike there, pauses are
not cut out: what is compared here has them at the same places.
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
from rvc_jax.features.nn import convert_state_dict
from rvc_jax.weights import store, torch_file

WEIGHTS = "resemblyzer"
INSTALL_HINT = (
    "`rvc-jax download resemblyzer` brings the model that it is measured with (17 MB)"
)
CHANNELS = 256

_WINDOW = 400
_MELS = 40
_LAYERS = 3
_PIECE = 160
_PIECE_STEP = 77
_LEAST_PIECE = 120
"""Frames of a piece, between the beginnings of two, and that must be there for another piece than
the first."""
_LEVEL = 10 ** (-30 / 20)
"""Quieter audio is brought to this root mean square."""

Params = dict[str, jax.Array]


class SpeakerEncoder:
    """Embeddings of 16 kHz audio."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        """From Resemblyzer's state dict. Raises UserError if it is not that."""
        trial = (np.zeros((1, _PIECE, _MELS), np.float32),)
        self._params = convert_state_dict(
            from_state_dict, state, _embed, trial, "the weights of Resemblyzer"
        )

    @classmethod
    def find(cls) -> SpeakerEncoder | None:
        """With the weights on this machine, downloaded or in the package Resemblyzer; None if they
        are not there."""
        path = store.find(WEIGHTS)
        if path is None:
            return None
        content = torch_file.read(path)
        if not isinstance(content, Mapping) or not isinstance(
            content.get("model_state"), Mapping
        ):
            raise UserError(f"{path} does not hold the weights of Resemblyzer")
        return cls(content["model_state"])

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """audio [batch, samples], rows of `lengths` samples (all, if not given) -> float32 [batch,
        256] of length 1.

        Samples are a multiple of 320. The cosine of two embeddings, their product, is about 0.6 for
        two people and above 0.8 for two recordings of one.
        """
        return np.asarray(_embeddings(self._params, *check_batch(audio, lengths)))


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's LSTM layers, whose two biases are added, and the dense layer behind them."""
    params = {"linear.kernel": state["linear.weight"].T, "linear.bias": state["linear.bias"]}
    for i in range(_LAYERS):
        params[f"lstm.{i}.input"] = state[f"lstm.weight_ih_l{i}"].T
        params[f"lstm.{i}.hidden"] = state[f"lstm.weight_hh_l{i}"].T
        params[f"lstm.{i}.bias"] = state[f"lstm.bias_ih_l{i}"] + state[f"lstm.bias_hh_l{i}"]
    return params


@jax.jit
def _embeddings(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean embedding of the pieces of every row."""
    inside = jnp.arange(audio.shape[1]) < lengths[:, None]
    audio = jnp.where(inside, audio, 0.0)
    level = jnp.sqrt(jnp.sum(jnp.square(audio), axis=1) / lengths)
    audio = audio * jnp.maximum(_LEVEL / jnp.maximum(level, 1e-9), 1.0)[:, None]
    available = lengths // FEATURE_HOP + 1
    mels = _mels(audio)
    mels = jnp.where((jnp.arange(mels.shape[1]) < available[:, None])[..., None], mels, 0.0)
    mels = jnp.pad(mels, ((0, 0), (0, _PIECE), (0, 0)))
    starts = range(0, max(1, audio.shape[1] // FEATURE_HOP + 2 - _LEAST_PIECE), _PIECE_STEP)
    pieces = jnp.stack([mels[:, start : start + _PIECE] for start in starts], axis=1)
    embedded = _embed(params, pieces.reshape(-1, _PIECE, _MELS)).reshape(
        *pieces.shape[:2], CHANNELS
    )
    start = jnp.array(starts)
    counts = (start == 0) | (
        lengths[:, None] - start * FEATURE_HOP >= _LEAST_PIECE * FEATURE_HOP
    )
    return _normalize(jnp.sum(embedded * counts[..., None], axis=1))


def _mels(audio: jax.Array) -> jax.Array:
    """Mel power spectrogram [batch, frames, 40]; frame i is centred on sample 160 * i."""
    padded = jnp.pad(audio, ((0, 0), (_WINDOW // 2, _WINDOW // 2)))
    spectrum = rfft(frames(padded, _WINDOW, FEATURE_HOP) * periodic_hann(_WINDOW))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(FEATURE_RATE, _WINDOW, _MELS, 0.0, None)
    return jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST)


def _embed(params: Params, mels: jax.Array) -> jax.Array:
    """Mels of pieces [batch, 160, 40] -> embeddings [batch, 256] of length 1."""
    with jax.default_matmul_precision("float32"):
        x = jnp.swapaxes(mels, 0, 1)
        for i in range(_LAYERS):
            x = _lstm(params, f"lstm.{i}", x)
        return _normalize(jax.nn.relu(x[-1] @ params["linear.kernel"] + params["linear.bias"]))


def _lstm(params: Params, name: str, x: jax.Array) -> jax.Array:
    """x [time, batch, channels] -> [time, batch, 256]."""

    def step(
        carry: tuple[jax.Array, jax.Array], given: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        hidden, cell = carry
        gates = jnp.split(given + hidden @ params[f"{name}.hidden"], 4, axis=-1)
        entry, forget, output = (jax.nn.sigmoid(gates[i]) for i in (0, 1, 3))
        cell = forget * cell + entry * jnp.tanh(gates[2])
        hidden = output * jnp.tanh(cell)
        return (hidden, cell), hidden

    start = jnp.zeros((x.shape[1], CHANNELS))
    given = x @ params[f"{name}.input"] + params[f"{name}.bias"]
    return jax.lax.scan(step, (start, start), given)[1]


def _normalize(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
