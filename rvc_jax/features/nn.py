"""Layers of the feature networks, as functions over flat dicts of parameters.

The generator and the discriminators are Flax NNX modules because they are trained: they create
parameters, and an optimizer has to find them. Feature networks are only ever run, with published
weights. A dict under the published names is what `from_state_dict` reads and what `jax.jit` takes;
an object per layer would add names of its own without adding anything else.

Layer `name` has `name.kernel` [..., in, out] and, if it has one, `name.bias` [out]; a normalization
has `name.scale` and `name.bias`. All are float32. Layouts are channels last.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.errors import UserError

HEAD_CHANNELS = 64
"""Channels of an attention head in every published HuBERT base and large, and in every Whisper."""

NORM_EPSILON = 1e-5
_MASKED_SCORE = -1e30
_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

Parameters = dict[str, jax.Array]
LstmState = tuple[jax.Array, jax.Array]
"""Hidden and cell state, each [..., units]."""
Padding = str | Sequence[tuple[int, int]]


def convert_state_dict(
    convert: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]],
    state: Mapping[str, np.ndarray],
    network: Callable[..., Any],
    trial: tuple[np.ndarray, ...],
    what: str,
) -> Parameters:
    """Convert a published state dict, and check that the network runs with the result.

    Args:
      convert: makes our parameters of the state dict.
      state: the state dict.
      network: is traced with the parameters and `trial`; nothing is computed.
      trial: the network's input.
      what: the weights that are expected, for the error.

    Raises:
      UserError: the state dict is not `what`.
    """
    try:
        parameters = convert(state)
        jax.eval_shape(network, parameters, *trial)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"these are not {what}: {error}") from error
    return {name: jnp.asarray(array) for name, array in parameters.items()}


# --- Dense layers, convolutions and normalization


def linear(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Apply a dense layer to the last axis of x."""
    return _add_bias(parameters, name, x @ parameters[f"{name}.kernel"])


def convolution(
    parameters: Parameters,
    name: str,
    x: jax.Array,
    stride: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
) -> jax.Array:
    """Convolve over time, or over time and frequency.

    A kernel over time alone also takes x with frequencies.

    Args:
      x: [batch, time, channels] or [batch, time, frequency, channels].
      stride: of every axis.
      padding: "SAME", or (before, after) for every axis.
      groups: of channels. They are not derived from the shapes, so that weights of a wrong shape
        are an error.
    """
    kernel = parameters[f"{name}.kernel"]
    if kernel.ndim < x.ndim:
        kernel = kernel[:, None]
    return _add_bias(parameters, name, convolve(x, kernel, stride, padding, groups))


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
) -> jax.Array:
    """Convolve with a kernel [time, (frequency,) in / groups, out]; arguments as `convolution`."""
    # On CPUs this is faster than matrix products over gathered taps, for grouped convolutions too.
    axes = x.ndim - 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * axes,
        padding,
        dimension_numbers=_LAYOUTS[axes],
        feature_group_count=groups,
    )


def short_convolution(
    parameters: Parameters, name: str, x: jax.Array, stride: int = 1
) -> jax.Array:
    """Convolve x [batch, time, channels] of a few time steps with a kernel [taps * in, out].

    Padding keeps the length. The taps are concatenated along the channels, so that the convolution
    is one matrix product, which is faster where there is so little time to slide over.
    """
    taps = parameters[f"{name}.kernel"].shape[0] // x.shape[2]
    margin = taps // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (0, 0)))
    columns = [padded[:, tap : tap + x.shape[1] : stride] for tap in range(taps)]
    return linear(parameters, name, jnp.concatenate(columns, axis=-1))


def _add_bias(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    # Not all layers have one: Whisper's attention keys and HuBERT's convolutions don't.
    bias = parameters.get(f"{name}.bias")
    return x if bias is None else x + bias


def layer_norm(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Normalize x over its channels."""
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centered).mean(axis=-1, keepdims=True)
    scale = parameters[f"{name}.scale"]
    bias = parameters[f"{name}.bias"]
    return centered * lax.rsqrt(variance + NORM_EPSILON) * scale + bias


def gelu(x: jax.Array) -> jax.Array:
    """Compute GELU by the error function, as PyTorch does.

    `jax.nn.gelu` uses the complementary error function: several times slower on CPUs.
    """
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


# --- Recurrent layers


def lstm(
    parameters: Parameters, name: str, x: jax.Array, state: LstmState
) -> tuple[jax.Array, LstmState]:
    """Run an LSTM layer over time, with PyTorch's order of gates.

    Args:
      parameters: `name.input.kernel` [in, 4 * units], `name.recurrent.kernel` [units, 4 * units]
        and `name.bias` [4 * units].
      x: [time, ..., in].
      state: before the first time step.

    Returns: hidden states [time, ..., units], and the state after the last time step.
    """
    recurrent = parameters[f"{name}.recurrent.kernel"]

    def step(state: LstmState, projected: jax.Array) -> tuple[LstmState, jax.Array]:
        hidden, cell = state
        gates = projected + hidden @ recurrent
        input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
        carried = jax.nn.sigmoid(forget_gate) * cell
        cell = carried + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(output_gate) * jnp.tanh(cell)
        return (hidden, cell), hidden

    projected = x @ parameters[f"{name}.input.kernel"] + parameters[f"{name}.bias"]
    state, hidden = lax.scan(step, state, projected)
    return hidden, state


def bidirectional_gru(
    parameters: Parameters, name: str, x: jax.Array, inside: jax.Array
) -> jax.Array:
    """Run gated recurrent units forward and backward in time, with PyTorch's order of gates.

    Both directions are one loop. What does not depend on the state is computed before it.

    Args:
      parameters: `name.input.kernel` [in, 2 * 3 * units] with its bias, and `name.state.kernel`
        [2, units, 3 * units] with its bias [2, 3 * units].
      x: [batch, time, in].
      inside: [batch, time, 1], 1 in the frames of a row and 0 behind its end. The backward
        direction starts at the end.

    Returns: [batch, time, 2 * units].
    """
    kernel = parameters[f"{name}.state.kernel"]
    bias = parameters[f"{name}.state.bias"]
    units = kernel.shape[1]
    forward, backward = jnp.split(linear(parameters, f"{name}.input", x), 2, axis=-1)
    # [time, direction, batch, 3 * units]
    inputs = jnp.stack([forward, backward[:, ::-1]]).transpose(2, 0, 1, 3)
    # Forward, what lies behind the end of a row does not reach the frames before it.
    running = jnp.stack([jnp.ones_like(inside), inside[:, ::-1]]).transpose(2, 0, 1, 3)

    def step(
        state: jax.Array, frame: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        projected, is_inside = frame
        own = jnp.einsum("dbi,dio->dbo", state, kernel) + bias[:, None]
        gates = jax.nn.sigmoid(projected[..., : 2 * units] + own[..., : 2 * units])
        reset, update = jnp.split(gates, 2, axis=-1)
        candidate = jnp.tanh(projected[..., 2 * units :] + reset * own[..., 2 * units :])
        state = (candidate + update * (state - candidate)) * is_inside
        return state, state

    start = jnp.zeros((2, x.shape[0], units), x.dtype)
    _, states = lax.scan(step, start, (inputs, running))
    states = states.transpose(1, 2, 0, 3)
    return jnp.concatenate([states[0], states[1][:, ::-1]], axis=-1)


# --- Transformers


def attention(parameters: Parameters, name: str, x: jax.Array, valid: jax.Array) -> jax.Array:
    """Apply self-attention with heads of 64 channels.

    Args:
      x: [batch, time, channels].
      valid: bool [batch, time], the frames that are attended to.
    """

    def split_heads(part: str) -> jax.Array:
        """[heads, batch, time, 64]."""
        y = linear(parameters, f"{name}.{part}", x)
        return y.reshape(*x.shape[:2], -1, HEAD_CHANNELS).transpose(2, 0, 1, 3)

    def mix(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        scores = jnp.where(valid[:, None], query @ key.swapaxes(-1, -2), _MASKED_SCORE)
        # Dividing the mixed values instead of the weights saves a pass over [..., time, time].
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        return (weights @ value) / weights.sum(axis=-1, keepdims=True)

    def mix_head_by_head(*parts: jax.Array) -> jax.Array:
        # One head's scores fit a CPU's cache: two to four times as fast for thirty seconds.
        return lax.map(lambda head: mix(*head), parts)

    query = split_heads("query") * HEAD_CHANNELS**-0.5
    key = split_heads("key")
    value = split_heads("value")
    mixed = lax.platform_dependent(query, key, value, cpu=mix_head_by_head, default=mix)
    return linear(parameters, f"{name}.out", mixed.transpose(1, 2, 0, 3).reshape(x.shape))


def transformer_layer(
    parameters: Parameters, name: str, x: jax.Array, valid: jax.Array, norm_first: bool
) -> jax.Array:
    """Apply attention and two dense layers, each with a residual connection and layer norm.

    Args:
      x: [batch, time, channels].
      valid: bool [batch, time], the frames that are attended to.
      norm_first: normalize before each part (Whisper, HuBERT large), or after its residual
        connection (HuBERT base).
    """

    def attend(y: jax.Array) -> jax.Array:
        return attention(parameters, f"{name}.attention", y, valid)

    def feed_forward(y: jax.Array) -> jax.Array:
        hidden = gelu(linear(parameters, f"{name}.mlp.in", y))
        return linear(parameters, f"{name}.mlp.out", hidden)

    for part, function in (("attention", attend), ("mlp", feed_forward)):
        norm = functools.partial(layer_norm, parameters, f"{name}.{part}_norm")
        x = x + function(norm(x)) if norm_first else norm(x + function(x))
    return x
