"""The encoder of Whisper (arXiv 2212.04356) as content encoder; port of the public openai/whisper (MIT).

Parameters are a flat dict: `conv1.kernel` [3, mels, width], `blocks.0.attention.query.kernel` [in, out],
`blocks.0.mlp_norm.scale`, ... Their shapes tell the number of layers and the width; every published size has heads of
64 channels.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import mel_filters
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE
from rvc_jax.weights import bundled

MAX_MEL_FRAMES = 3000
"""Thirty seconds: as many positions as the encoder was trained with."""

_N_FFT = 400
_HEAD_CHANNELS = 64
_MEL_FLOOR = 1e-10
_NORM_EPSILON = 1e-5

Params = dict[str, jax.Array]


class WhisperContent:
    """The content encoder "whisper-tiny" (multilingual, 8-bit weights); see `features.content.ContentEncoder`."""

    name = "whisper-tiny"

    def __init__(self) -> None:
        self._params = {name: jnp.asarray(array) for name, array in bundled.load("whisper_tiny").items()}
        self.channels = self._params["final_norm.scale"].shape[0]
        self.fingerprint = hashlib.sha256(f"{bundled.sha256('whisper_tiny')} last layer".encode()).hexdigest()

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP:
            raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
        return np.asarray(_encode_audio(self._params, jnp.asarray(audio, jnp.float32)))


@jax.jit
def _encode_audio(params: Params, audio: jax.Array) -> jax.Array:
    return encode(params, log_mel(audio, params["conv1.kernel"].shape[1]))


def log_mel(audio: jax.Array, n_mels: int = 80) -> jax.Array:
    """Whisper's input: audio [batch, samples] at 16 kHz -> [batch, samples // 160, n_mels].

    The logarithm of power is held above the highest of the batch item less 8 (80 dB).
    """
    frames = audio.shape[1] // FEATURE_HOP
    padded = jnp.pad(audio, ((0, 0), (_N_FFT // 2, _N_FFT // 2)), mode="reflect")
    starts = np.arange(frames)[:, None] * FEATURE_HOP
    framed = padded[:, starts + np.arange(_N_FFT)]
    spectrum = jnp.fft.rfft(framed * np.hanning(_N_FFT + 1)[:-1].astype(np.float32))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    filters = mel_filters(FEATURE_RATE, _N_FFT, n_mels, 0.0, None)
    mel = jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST)
    log = jnp.log10(jnp.maximum(mel, _MEL_FLOOR))
    return (jnp.maximum(log, log.max(axis=(1, 2), keepdims=True) - 8.0) + 4.0) / 4.0


def encode(params: Params, mel: jax.Array) -> jax.Array:
    """Log-mel [batch, frames, mels] -> content [batch, ceil(frames / 2), width], for up to 3000 frames.

    A shorter input takes the first positions. Raises ValueError if there are more frames.
    """
    if mel.shape[1] > MAX_MEL_FRAMES:
        raise ValueError(f"Whisper takes at most {MAX_MEL_FRAMES} frames at once, not {mel.shape[1]}")
    with jax.default_matmul_precision("float32"):
        x = jax.nn.gelu(_convolution(params, "conv1", mel, stride=1), approximate=False)
        x = jax.nn.gelu(_convolution(params, "conv2", x, stride=2), approximate=False)
        x = x + sinusoids(x.shape[1], x.shape[2])
        for i in range(layers(params)):
            x = x + _attention(params, f"blocks.{i}.attention", _norm(params, f"blocks.{i}.attention_norm", x))
            hidden = _linear(params, f"blocks.{i}.mlp.in", _norm(params, f"blocks.{i}.mlp_norm", x))
            x = x + _linear(params, f"blocks.{i}.mlp.out", jax.nn.gelu(hidden, approximate=False))
        return _norm(params, "final_norm", x)


def layers(params: Mapping[str, jax.Array]) -> int:
    """Number of transformer blocks."""
    return sum(key.endswith(".mlp.in.kernel") for key in params)


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Positions [length, channels]: sines of falling frequency, then their cosines.

    Rounded to half precision, as the published checkpoints hold them.
    """
    frequencies = np.exp(-math.log(10000.0) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return waves.astype(np.float16).astype(np.float32)


def from_openai_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters from an OpenAI checkpoint of any size, whose keys are like `encoder.blocks.0.attn.query.weight`.

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
    params = {}
    for key, array in state.items():
        if not key.startswith("encoder.") or key == "encoder.positional_embedding":
            continue
        name = key.removeprefix("encoder.")
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        params[name] = np.asarray(array, np.float32).T  # [out, in, (time)] -> [(time), in, out]
    if "conv1.kernel" not in params:
        raise ValueError("no Whisper encoder in this state dict")
    return params


def _convolution(params: Params, name: str, x: jax.Array, stride: int) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x, params[f"{name}.kernel"], (stride,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC")
    )
    return y + params[f"{name}.bias"]


def _linear(params: Params, name: str, x: jax.Array) -> jax.Array:
    y = x @ params[f"{name}.kernel"]
    return y + params[f"{name}.bias"] if f"{name}.bias" in params else y  # the keys of attention have no bias


def _norm(params: Params, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _NORM_EPSILON) * params[f"{name}.scale"] + params[f"{name}.bias"]


def _attention(params: Params, name: str, x: jax.Array) -> jax.Array:
    def heads(part: str) -> jax.Array:
        return _linear(params, f"{name}.{part}", x).reshape(*x.shape[:2], -1, _HEAD_CHANNELS)

    scores = jnp.einsum("bqhc,bkhc->bhqk", heads("query"), heads("key")) * _HEAD_CHANNELS**-0.5
    mixed = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores, axis=-1), heads("value"))
    return _linear(params, f"{name}.out", mixed.reshape(x.shape))
