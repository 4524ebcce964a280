"""The encoder of Whisper (arXiv 2212.04356) as content encoder; port of openai/whisper (MIT).

Parameters are a flat dict: `conv1.kernel` [3, mels, width], `blocks.0.attention.query.kernel` [in,
out], `blocks.0.mlp_norm.scale`, ... Their shapes determine the number of layers and the width;
heads have 64 channels in every published size.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, mel_filters, periodic_hann, rfft
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.features.framing import frame_mask, pad_rows_reflect, trim_to_frames
from rvc_jax.features.nn import Parameters, convolution, gelu, layer_norm, transformer_layer
from rvc_jax.weights import bundled

MAX_MEL_FRAMES = 3000
"""Thirty seconds: the encoder was trained with this many positions."""

SIZES = ("tiny", "base", "small")

_N_FFT = 400
_MEL_FLOOR = 1e-10


class WhisperContent:
    """The content encoders "whisper-tiny" (8-bit weights), "whisper-base" and "whisper-small".

    See `features.content.ContentEncoder`. All are multilingual. Whisper was trained on windows of
    thirty seconds, padded with silence; shorter windows are not padded here. A row with a length of
    its own is cut to whole frames of 320 samples, and its frames do not depend on the samples
    behind. Without lengths, zeros at the end of a row count as silence.
    """

    def __init__(
        self, parameters: Mapping[str, np.ndarray], fingerprint: str, name: str = "whisper"
    ):
        """Make an encoder.

        Args:
          parameters: as `from_openai_state_dict` makes them.
          fingerprint: hash of the weights.
          name: the user's name for it.
        """
        self._parameters = {
            key: jnp.asarray(array, jnp.float32) for key, array in parameters.items()
        }
        self.name = name
        self.channels = self._parameters["final_norm.scale"].shape[0]
        # Features are cached by this hash: its text must not change.
        self.fingerprint = hashlib.sha256(f"{fingerprint} last layer".encode()).hexdigest()

    @classmethod
    def load(cls, name: str = "whisper-tiny") -> WhisperContent:
        """Load the encoder of that name; all but tiny, which is bundled, are downloaded if needed.

        Raises:
          UserError: unknown name, or weights that cannot be downloaded.
        """
        if name == "whisper-tiny":
            return cls(bundled.load("whisper_tiny"), bundled.sha256("whisper_tiny"), name)
        if name not in {f"whisper-{size}" for size in SIZES}:
            raise UserError(
                f"unknown content encoder {name!r}; of Whisper there are {', '.join(SIZES)}"
            )
        from rvc_jax.weights import store, torch_file

        file = store.path(name)
        content = torch_file.read(file)
        try:
            parameters = from_openai_state_dict(content["model_state_dict"])
            return cls(parameters, store.fingerprint(file), name)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{file}: is not a checkpoint of Whisper") from None

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Compute content features; see `features.content.ContentEncoder`."""
        return np.asarray(_content(self._parameters, *trim_to_frames(audio, lengths)))


@jax.jit
def _content(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    mel = log_mel(audio, parameters["conv1.kernel"].shape[1], lengths)
    return encode(parameters, mel, lengths // CONTENT_HOP)


def log_mel(audio: jax.Array, n_mels: int = 80, lengths: jax.Array | None = None) -> jax.Array:
    """Compute Whisper's input.

    The base-10 logarithm of power is limited to 8 (80 dB) below the row's maximum.

    Args:
      audio: [batch, samples] at 16 kHz.
      lengths: int [batch], samples of each row; whole rows if not given.

    Returns: [batch, samples // 160, n_mels]; 0 behind a row's length.
    """
    if lengths is None:
        lengths = jnp.full(audio.shape[0], audio.shape[1])
    padded = pad_rows_reflect(audio, lengths, _N_FFT // 2, _N_FFT // 2)
    framed = frames(padded, _N_FFT, FEATURE_HOP)[:, : audio.shape[1] // FEATURE_HOP]
    spectrum = rfft(framed * periodic_hann(_N_FFT))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(FEATURE_RATE, _N_FFT, n_mels, 0.0, None)
    mel = jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST)
    log = jnp.log10(jnp.maximum(mel, _MEL_FLOOR))
    valid = frame_mask(log, lengths // FEATURE_HOP)[..., None]
    lowest = math.log10(_MEL_FLOOR)
    highest = log.max(axis=(1, 2), keepdims=True, where=valid, initial=lowest)
    return jnp.where(valid, (jnp.maximum(log, highest - 8.0) + 4.0) / 4.0, 0.0)


def encode(
    parameters: Parameters, mel: jax.Array, lengths: jax.Array | None = None
) -> jax.Array:
    """Run the encoder; a short input uses the first positions.

    Args:
      parameters: as `from_openai_state_dict` makes them.
      mel: log-mel [batch, frames, mels].
      lengths: int [batch], frames of content of each row, which attends to those only; all if not
        given.

    Returns: content [batch, ceil(frames / 2), width].

    Raises:
      ValueError: more than 3000 frames.
    """
    if mel.shape[1] > MAX_MEL_FRAMES:
        raise ValueError(
            f"Whisper takes at most {MAX_MEL_FRAMES} frames at once, not {mel.shape[1]}"
        )
    with jax.default_matmul_precision("float32"):
        x = gelu(convolution(parameters, "conv1", mel, 1, [(1, 1)]))
        x = gelu(convolution(parameters, "conv2", x, 2, [(1, 1)]))
        if lengths is None:
            lengths = jnp.full(x.shape[0], x.shape[1])
        valid = frame_mask(x, lengths)
        x = x + sinusoids(x.shape[1], x.shape[2])
        for i in range(layers(parameters)):
            x = transformer_layer(parameters, f"blocks.{i}", x, valid, norm_first=True)
        return layer_norm(parameters, "final_norm", x)


def layers(parameters: Mapping[str, Any]) -> int:
    """Count the transformer blocks."""
    return sum(key.endswith(".mlp.in.kernel") for key in parameters)


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Make position embeddings float32 [length, channels]: sines, then cosines.

    Frequencies fall. They are rounded to half precision, as in the published checkpoints.
    """
    frequencies = np.exp(-math.log(10000.0) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return waves.astype(np.float16).astype(np.float32)


def from_openai_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert an OpenAI checkpoint of any size; its keys are like
    `encoder.blocks.0.attn.query.weight`.

    The decoder is left out.

    Raises:
      ValueError: there is no encoder.
    """
    renames = (
        (r"\.attn_ln\.", ".attention_norm."),
        (r"\.mlp_ln\.", ".mlp_norm."),
        (r"\.attn\.", ".attention."),
        (r"\.mlp\.0\.", ".mlp.in."),
        (r"\.mlp\.2\.", ".mlp.out."),
        (r"^ln_post\.", "final_norm."),
        (r"norm\.weight$", "norm.scale"),
        (r"\.weight$", ".kernel"),
    )
    parameters = {}
    for key, array in state.items():
        if not key.startswith("encoder.") or key == "encoder.positional_embedding":
            continue
        name = key.removeprefix("encoder.")
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        # [out, in, (time)] -> [(time), in, out]
        parameters[name] = np.asarray(array, np.float32).T
    if "conv1.kernel" not in parameters:
        raise ValueError("no Whisper encoder in this state dict")
    return parameters
