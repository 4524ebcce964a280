"""What the feature networks share: reading weights, rows of audio, and the layers of a transformer.

Parameters are a flat dict of float32 arrays; layer `name` has `name.kernel` and, if it has one,
`name.bias`; a normalisation `name.scale` and `name.bias`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.config import CONTENT_HOP
from rvc_jax.errors import UserError

HEAD_CHANNELS = 64
"""Of every published HuBERT base and large, and of every Whisper."""

NORM_EPSILON = 1e-5
_MASKED_SCORE = -1e30

Parameters = dict[str, jax.Array]


def convert_state_dict(
    convert: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]],
    state: Mapping[str, np.ndarray],
    network: Callable[..., Any],
    trial: tuple[np.ndarray, ...],
    what: str,
) -> Parameters:
    """The parameters that `convert` makes of a state dict, if the network can be run with them on a
    trial input.

    Raises UserError, saying that they are not `what`, if it cannot.
    """
    try:
        parameters = convert(state)
        jax.eval_shape(network, parameters, *trial)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"these are not {what}: {error}") from error
    return {name: jnp.asarray(array) for name, array in parameters.items()}


def trim_to_frames(
    audio: np.ndarray, lengths: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The audio [batch, samples] as float32, and how many samples of each row are whole frames of
    content, int32.

    Raises ValueError for an audio that is not of whole frames, or lengths that do not fit it.
    """
    if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP or not audio.shape[1]:
        raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
    batch, samples = audio.shape
    lengths = np.full(batch, samples) if lengths is None else np.asarray(lengths)
    if lengths.shape != (batch,) or np.any((lengths < CONTENT_HOP) | (lengths > samples)):
        raise ValueError(
            f"lengths must be one per row, from {CONTENT_HOP} to {samples} samples, not {lengths}"
        )
    return np.asarray(audio, np.float32), (lengths // CONTENT_HOP * CONTENT_HOP).astype(
        np.int32
    )


def frame_mask(x: jax.Array, frames: jax.Array) -> jax.Array:
    """Which frames of x [batch, time, ...] lie within each row's number of frames -> bool [batch,
    time]."""
    return jnp.arange(x.shape[1]) < frames[:, None]


def gelu(x: jax.Array) -> jax.Array:
    """GELU by the error function, as PyTorch's. `jax.nn.gelu` takes its complement: several times
    slower on CPUs."""
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


def linear(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    y = x @ parameters[f"{name}.kernel"]
    return (
        y + parameters[f"{name}.bias"] if f"{name}.bias" in parameters else y
    )  # Whisper's keys have no bias


def layer_norm(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    scale = parameters[f"{name}.scale"]
    bias = parameters[f"{name}.bias"]
    return centred * lax.rsqrt(variance + NORM_EPSILON) * scale + bias


def attention(parameters: Parameters, name: str, x: jax.Array, valid: jax.Array) -> jax.Array:
    """Self-attention of x [batch, time, channels] to its valid [batch, time] frames."""

    def heads(part: str) -> jax.Array:
        y = linear(parameters, f"{name}.{part}", x)
        return y.reshape(*x.shape[:2], -1, HEAD_CHANNELS).transpose(2, 0, 1, 3)

    def mix(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        scores = jnp.where(valid[:, None], query @ key.swapaxes(-1, -2), _MASKED_SCORE)
        # Dividing the mixed values rather than the weights saves a pass over [..., time, time].
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        return (weights @ value) / weights.sum(axis=-1, keepdims=True)

    def one_by_one(*parts: jax.Array) -> jax.Array:
        """Head by head the scores stay in a CPU's cache: two to four times as fast for thirty
        seconds."""
        return lax.map(lambda head: mix(*head), parts)

    query = heads("query") * HEAD_CHANNELS**-0.5
    key = heads("key")
    value = heads("value")
    mixed = lax.platform_dependent(query, key, value, cpu=one_by_one, default=mix)
    return linear(parameters, f"{name}.out", mixed.transpose(1, 2, 0, 3).reshape(x.shape))


def transformer_layer(
    parameters: Parameters, name: str, x: jax.Array, valid: jax.Array, norm_first: bool
) -> jax.Array:
    """Attention and two dense layers, each beside a shortcut and normalised before or after it."""

    def attend(y: jax.Array) -> jax.Array:
        return attention(parameters, f"{name}.attention", y, valid)

    def dense(y: jax.Array) -> jax.Array:
        return linear(
            parameters, f"{name}.mlp.out", gelu(linear(parameters, f"{name}.mlp.in", y))
        )

    for part, function in (("attention", attend), ("mlp", dense)):
        norm = functools.partial(layer_norm, parameters, f"{name}.{part}_norm")
        x = x + function(norm(x)) if norm_first else norm(x + function(x))
    return x
