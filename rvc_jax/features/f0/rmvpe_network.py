"""The network of RMVPE (arXiv 2306.15412): a U-Net over the log-mel spectrogram and a recurrent
layer behind it.

Layout is [batch, time, frequency, channels]. Parameters are a flat dict under the names of the
public checkpoint, with `weight` as `kernel` in our layout and every batch normalisation but the
first folded into the convolution before it.

Rows of a batch may end early. Each is computed as if it were alone: whatever lies behind its end is
set to zero in front of every convolution, as a convolution's own padding is, and the recurrence
backwards in time begins at its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

MEL_BANDS = 128
BINS = 360
"""Pitch candidates."""
MULTIPLE = 32
"""Five layers of the encoder halve the time line; its length must be a multiple of this."""

_ENCODER_LAYERS = 5
_BATCH_NORM_EPSILON = 1e-5

Params = dict[str, jax.Array]


def salience(params: Params, mel: jax.Array, ends: jax.Array) -> jax.Array:
    """How much each pitch candidate is in each frame, 0..1.

    Args:
      params: from `from_state_dict`.
      mel: log-mel [batch, frames, 128], frames a multiple of 32.
      ends: int [batch], each a multiple of 32: frames of each row.

    Returns: [batch, frames, 360].
    """
    inside = (jnp.arange(mel.shape[1]) < ends[:, None]).astype(mel.dtype)
    x = _unet(params, mel[..., None], inside[..., None, None])
    x = _convolution(params, "cnn", x)
    x = _bidirectional_gru(
        params, x.transpose(0, 1, 3, 2).reshape(*x.shape[:2], -1), inside[..., None]
    )
    return jax.nn.sigmoid(x @ params["fc.1.kernel"] + params["fc.1.bias"])


def _unet(params: Params, x: jax.Array, inside: jax.Array) -> jax.Array:
    x = (x * params["unet.encoder.bn.scale"] + params["unet.encoder.bn.shift"]) * inside
    skipped = []
    for i in range(_ENCODER_LAYERS):
        x = _residual_blocks(params, f"unet.encoder.layers.{i}.conv", x, inside)
        skipped.append((x, inside))
        x = _average_pool(x)
        inside = inside[:, ::2]
    for i in range(_count(params, "unet.intermediate.layers")):
        x = _residual_blocks(params, f"unet.intermediate.layers.{i}.conv", x, inside)
    for i, (skip, inside) in enumerate(reversed(skipped)):
        name = f"unet.decoder.layers.{i}"
        x = jax.nn.relu(_upsample(params, f"{name}.conv1.0", x)) * inside
        x = _residual_blocks(
            params, f"{name}.conv2", jnp.concatenate([x, skip], axis=-1), inside
        )
    return x


def _residual_blocks(params: Params, name: str, x: jax.Array, inside: jax.Array) -> jax.Array:
    """Residual blocks of two convolutions each."""
    for i in range(_count(params, name)):
        block = f"{name}.{i}"
        hidden = jax.nn.relu(_convolution(params, f"{block}.conv.0", x)) * inside
        hidden = jax.nn.relu(_convolution(params, f"{block}.conv.3", hidden))
        if f"{block}.shortcut.kernel" in params:
            x = x @ params[f"{block}.shortcut.kernel"][0, 0] + params[f"{block}.shortcut.bias"]
        x = (hidden + x) * inside
    return x


def _convolution(params: Params, name: str, x: jax.Array) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x, params[f"{name}.kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + params[f"{name}.bias"]


def _upsample(params: Params, name: str, x: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 in sub-pixel form: a plain one makes the four phases of
    the result."""
    batch, time, frequencies, _ = x.shape
    y = jax.lax.conv_general_dilated(
        x,
        params[f"{name}.kernel"],
        (1, 1),
        [(0, 1), (0, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y.reshape(batch, time, frequencies, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * time, 2 * frequencies, -1) + params[f"{name}.bias"]


def _average_pool(x: jax.Array) -> jax.Array:
    """Means of two by two."""
    batch, time, frequencies, channels = x.shape
    return x.reshape(batch, time // 2, 2, frequencies // 2, 2, channels).mean(axis=(2, 4))


def _bidirectional_gru(params: Params, x: jax.Array, inside: jax.Array) -> jax.Array:
    """Gated recurrent units forwards and backwards in time: [batch, time, inputs] -> [batch, time,
    2 * units].

    Both directions are one loop. What does not depend on the state is computed before it.
    """
    kernel = params["fc.0.gru.state.kernel"]
    bias = params["fc.0.gru.state.bias"]
    forwards, backwards = jnp.split(
        x @ params["fc.0.gru.input.kernel"] + params["fc.0.gru.input.bias"], 2, axis=-1
    )
    inputs = jnp.stack([forwards, backwards[:, ::-1]]).transpose(
        2, 0, 1, 3
    )  # [time, direction, batch, 3 * units]
    # Forwards, a row's end does no harm to what is before it.
    alive = jnp.stack([jnp.ones_like(inside), inside[:, ::-1]]).transpose(2, 0, 1, 3)

    def step(
        state: jax.Array, frame: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        given, running = frame
        own = jnp.einsum("dbi,dio->dbo", state, kernel) + bias[:, None]
        reset, update = jnp.split(
            jax.nn.sigmoid(given[..., : 2 * units] + own[..., : 2 * units]), 2, axis=-1
        )
        new = jnp.tanh(given[..., 2 * units :] + reset * own[..., 2 * units :])
        state = (new + update * (state - new)) * running
        return state, state

    units = kernel.shape[1]
    _, states = jax.lax.scan(step, jnp.zeros((2, x.shape[0], units), x.dtype), (inputs, alive))
    states = states.transpose(1, 2, 0, 3)
    return jnp.concatenate([states[0], states[1][:, ::-1]], axis=-1)


def _count(params: Mapping[str, jax.Array], name: str) -> int:
    """Number of the layers `name`.0, `name`.1, ..."""
    return len(
        {
            key.removeprefix(f"{name}.").split(".")[0]
            for key in params
            if key.startswith(f"{name}.")
        }
    )


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters from the state dict of the public checkpoint. Raises KeyError if a name is
    missing."""
    params: dict[str, np.ndarray] = {}
    for key, weight in state.items():
        if key.endswith(".weight") and np.ndim(weight) == 4:
            name = key.removesuffix(".weight")
            params[f"{name}.kernel"], params[f"{name}.bias"] = _fold_batch_norm(state, name)
    params["unet.encoder.bn.scale"], params["unet.encoder.bn.shift"] = _batch_norm(
        state, "unet.encoder.bn"
    )
    for part, letters, join in (("input", "ih", np.hstack), ("state", "hh", np.stack)):
        ways = [f"{letters}_l0", f"{letters}_l0_reverse"]
        params[f"fc.0.gru.{part}.kernel"] = join(
            [state[f"fc.0.gru.weight_{way}"].T for way in ways]
        )
        params[f"fc.0.gru.{part}.bias"] = join([state[f"fc.0.gru.bias_{way}"] for way in ways])
    params["fc.1.kernel"] = state["fc.1.weight"].T
    params["fc.1.bias"] = state["fc.1.bias"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in params.items()}


def _fold_batch_norm(
    state: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution, together with the batch normalisation that follows one
    without bias."""
    weight = state[f"{name}.weight"]
    transposed = name.endswith(".conv1.0")
    kernel = (
        _phases(weight.transpose(2, 3, 0, 1)) if transposed else weight.transpose(2, 3, 1, 0)
    )
    if f"{name}.bias" in state:
        return kernel, state[f"{name}.bias"]
    stem, index = name.rsplit(".", 1)
    scale, shift = _batch_norm(state, f"{stem}.{int(index) + 1}")
    return kernel * np.tile(scale, kernel.shape[-1] // len(scale)), shift


def _batch_norm(state: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch normalisation by its running statistics."""
    scale = state[f"{name}.weight"] / np.sqrt(
        state[f"{name}.running_var"] + _BATCH_NORM_EPSILON
    )
    return scale, state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale


def _phases(kernel: np.ndarray) -> np.ndarray:
    """Transposed kernel [3, 3, in, out] of stride 2 and padding 1 -> [2, 2, in, 4 * out] of a plain
    convolution.

    Even results read one input through the middle tap; odd ones read it through the last tap and
    its neighbour through the first.
    """
    taps = np.zeros((2, 2, 3), np.float32)  # [input, phase, tap]
    taps[0, 0, 1] = taps[0, 1, 2] = taps[1, 1, 0] = 1
    phases = np.einsum("hpy,wqx,yxio->hwipqo", taps, taps, kernel)
    return phases.reshape(2, 2, kernel.shape[2], -1)
