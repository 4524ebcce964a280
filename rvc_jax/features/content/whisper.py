"""The encoder of Whisper (arXiv 2212.04356) as content encoder; port of the public openai/whisper
(MIT).

Parameters are a flat dict: `conv1.kernel` [3, mels, width], `blocks.0.attention.query.kernel` [in,
out], `blocks.0.mlp_norm.scale`, ... Their shapes tell the number of layers and the width; every
published size has heads of 64 channels.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, mel_filters, periodic_hann, rfft
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.features.framing import pad_rows_reflect
from rvc_jax.features.nn import (
    Parameters,
    frame_mask,
    gelu,
    layer_norm,
    transformer_layer,
    trim_to_frames,
)
from rvc_jax.weights import bundled

MAX_MEL_FRAMES = 3000
"""Thirty seconds: as many positions as the encoder was trained with."""

SIZES = ("tiny", "base", "small")

_N_FFT = 400
_MEL_FLOOR = 1e-10


class WhisperContent:
    """The content encoders "whisper-tiny" (8-bit weights), "-base" and "-small"; see
    `features.content.ContentEncoder`.

    All are multilingual. Whisper was trained on windows of thirty seconds, filled up with silence;
    shorter windows are taken as they are. A row with a length of its own is cut to whole frames of
    320 samples, and what lies behind is hidden from it: it gives what it gives alone. Without
    lengths, zeros at the end of a row are heard as silence.
    """

    def __init__(
        self, parameters: Mapping[str, np.ndarray], fingerprint: str, name: str = "whisper"
    ):
        """An encoder of parameters as `from_openai_state_dict` makes them; the fingerprint is the
        weights' hash."""
        self._parameters = {
            key: jnp.asarray(array, jnp.float32) for key, array in parameters.items()
        }
        self.name = name
        self.channels = self._parameters["final_norm.scale"].shape[0]
        self.fingerprint = hashlib.sha256(f"{fingerprint} last layer".encode()).hexdigest()

    @classmethod
    def load(cls, name: str = "whisper-tiny") -> WhisperContent:
        """The encoder of that name; all but tiny, which comes with the package, are downloaded if
        need be.

        Raises UserError for a name that is none of them, or weights that cannot be had.
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
            return cls(
                from_openai_state_dict(content["model_state_dict"]),
                store.fingerprint(file),
                name,
            )
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{file}: is not a checkpoint of Whisper") from None

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_content(self._parameters, *trim_to_frames(audio, lengths)))


@jax.jit
def _content(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    mel = log_mel(audio, parameters["conv1.kernel"].shape[1], lengths)
    return encode(parameters, mel, lengths // CONTENT_HOP)


def log_mel(audio: jax.Array, n_mels: int = 80, lengths: jax.Array | None = None) -> jax.Array:
    """Whisper's input: audio [batch, samples] at 16 kHz -> [batch, samples // 160, n_mels].

    The logarithm of power is held above the highest of the row less 8 (80 dB). Frames behind a
    row's length [batch], if lengths are given, are 0.
    """
    lengths = jnp.full(audio.shape[0], audio.shape[1]) if lengths is None else lengths
    framed = frames(
        pad_rows_reflect(audio, lengths, _N_FFT // 2, _N_FFT // 2), _N_FFT, FEATURE_HOP
    )
    framed = framed[:, : audio.shape[1] // FEATURE_HOP]
    spectrum = rfft(framed * periodic_hann(_N_FFT))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(FEATURE_RATE, _N_FFT, n_mels, 0.0, None)
    mel = jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST)
    log = jnp.log10(jnp.maximum(mel, _MEL_FLOOR))
    valid = frame_mask(log, lengths // FEATURE_HOP)[..., None]
    highest = log.max(axis=(1, 2), keepdims=True, where=valid, initial=math.log10(_MEL_FLOOR))
    return jnp.where(valid, (jnp.maximum(log, highest - 8.0) + 4.0) / 4.0, 0.0)


def encode(
    parameters: Parameters, mel: jax.Array, lengths: jax.Array | None = None
) -> jax.Array:
    """Log-mel [batch, frames, mels] -> content [batch, ceil(frames / 2), width], for up to 3000
    frames.

    A shorter input takes the first positions. Where rows have lengths [batch], in frames of
    content, they attend to those frames only. Raises ValueError if there are more than 3000 frames.
    """
    if mel.shape[1] > MAX_MEL_FRAMES:
        raise ValueError(
            f"Whisper takes at most {MAX_MEL_FRAMES} frames at once, not {mel.shape[1]}"
        )
    with jax.default_matmul_precision("float32"):
        x = gelu(_convolution(parameters, "conv1", mel, stride=1))
        x = gelu(_convolution(parameters, "conv2", x, stride=2))
        valid = frame_mask(x, jnp.full(x.shape[0], x.shape[1]) if lengths is None else lengths)
        x = x + sinusoids(x.shape[1], x.shape[2])
        for i in range(layers(parameters)):
            x = transformer_layer(parameters, f"blocks.{i}", x, valid, norm_first=True)
        return layer_norm(parameters, "final_norm", x)


def layers(parameters: Mapping[str, jax.Array]) -> int:
    """Number of transformer blocks."""
    return sum(key.endswith(".mlp.in.kernel") for key in parameters)


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Positions [length, channels]: sines of falling frequency, then their cosines.

    Rounded to half precision, as the published checkpoints hold them.
    """
    frequencies = np.exp(-math.log(10000.0) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return waves.astype(np.float16).astype(np.float32)


def from_openai_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters from an OpenAI checkpoint of any size, whose keys are like
    `encoder.blocks.0.attn.query.weight`.

    The decoder is left out. Raises ValueError if there is no encoder.
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
        parameters[name] = np.asarray(
            array, np.float32
        ).T  # [out, in, (time)] -> [(time), in, out]
    if "conv1.kernel" not in parameters:
        raise ValueError("no Whisper encoder in this state dict")
    return parameters


def _convolution(parameters: Parameters, name: str, x: jax.Array, stride: int) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x,
        parameters[f"{name}.kernel"],
        (stride,),
        [(1, 1)],
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return y + parameters[f"{name}.bias"]
