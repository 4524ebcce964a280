"""The network of RMVPE (arXiv 2306.15412): a U-Net over the log-mel spectrogram, and a GRU.

Layout is [batch, time, frequency, channels]. Parameters are a flat dict under the names of the
public checkpoint, with `weight` as `kernel` in our layout and every batch normalization but the
first folded into the convolution before it.

Rows of a batch may end early. Each is computed as if it were alone: everything behind its end is
set to zero before every convolution, like a convolution's own padding, and the backward recurrence
begins at its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.features.nn import Parameters, bidirectional_gru, convolution, convolve, linear

MEL_BANDS = 128
BINS = 360
"""Pitch candidates."""
MULTIPLE = 32
"""Five layers of the encoder halve the time, so that its length must be a multiple of this."""

_ENCODER_LAYERS = 5
_BATCH_NORM_EPSILON = 1e-5


def salience(parameters: Parameters, mel: jax.Array, ends: jax.Array) -> jax.Array:
    """Compute how salient each pitch candidate is in each frame, 0..1.

    Args:
      parameters: from `from_state_dict`.
      mel: log-mel [batch, frames, 128], frames a multiple of 32.
      ends: int [batch], frames of each row, a multiple of 32.

    Returns: [batch, frames, 360].
    """
    inside = (jnp.arange(mel.shape[1]) < ends[:, None]).astype(mel.dtype)
    x = _unet(parameters, mel[..., None], inside[..., None, None])
    x = convolution(parameters, "cnn", x)
    x = x.transpose(0, 1, 3, 2).reshape(*x.shape[:2], -1)
    x = bidirectional_gru(parameters, "fc.0.gru", x, inside[..., None])
    return jax.nn.sigmoid(linear(parameters, "fc.1", x))


def _unet(parameters: Parameters, x: jax.Array, inside: jax.Array) -> jax.Array:
    scale = parameters["unet.encoder.bn.scale"]
    x = (x * scale + parameters["unet.encoder.bn.shift"]) * inside
    skipped = []
    for i in range(_ENCODER_LAYERS):
        x = _residual_blocks(parameters, f"unet.encoder.layers.{i}.conv", x, inside)
        skipped.append((x, inside))
        x = _average_pool(x)
        inside = inside[:, ::2]
    for i in range(_count_layers(parameters, "unet.intermediate.layers")):
        x = _residual_blocks(parameters, f"unet.intermediate.layers.{i}.conv", x, inside)
    for i, (skip, inside) in enumerate(reversed(skipped)):
        name = f"unet.decoder.layers.{i}"
        x = jax.nn.relu(_upsample(parameters, f"{name}.conv1.0", x)) * inside
        joined = jnp.concatenate([x, skip], axis=-1)
        x = _residual_blocks(parameters, f"{name}.conv2", joined, inside)
    return x


def _residual_blocks(
    parameters: Parameters, name: str, x: jax.Array, inside: jax.Array
) -> jax.Array:
    """Residual blocks of two convolutions each."""
    for i in range(_count_layers(parameters, name)):
        block = f"{name}.{i}"
        hidden = jax.nn.relu(convolution(parameters, f"{block}.conv.0", x)) * inside
        hidden = jax.nn.relu(convolution(parameters, f"{block}.conv.3", hidden))
        if f"{block}.shortcut.kernel" in parameters:
            kernel = parameters[f"{block}.shortcut.kernel"][0, 0]
            x = x @ kernel + parameters[f"{block}.shortcut.bias"]
        x = (hidden + x) * inside
    return x


def _upsample(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 in sub-pixel form.

    A plain convolution computes the four phases of the result as channels.
    """
    batch, time, frequencies, _ = x.shape
    y = convolve(x, parameters[f"{name}.kernel"], padding=[(0, 1), (0, 1)])
    y = y.reshape(batch, time, frequencies, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * time, 2 * frequencies, -1) + parameters[f"{name}.bias"]


def _average_pool(x: jax.Array) -> jax.Array:
    """Average over squares of two by two."""
    batch, time, frequencies, channels = x.shape
    return x.reshape(batch, time // 2, 2, frequencies // 2, 2, channels).mean(axis=(2, 4))


def _count_layers(parameters: Mapping[str, jax.Array], name: str) -> int:
    """Number of the layers `name`.0, `name`.1, ..."""
    prefix = f"{name}."
    numbers = {
        key.removeprefix(prefix).split(".")[0] for key in parameters if key.startswith(prefix)
    }
    return len(numbers)


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the state dict of the public checkpoint.

    Raises:
      KeyError: a name is missing.
    """
    parameters: dict[str, np.ndarray] = {}
    for key, weight in state.items():
        if key.endswith(".weight") and np.ndim(weight) == 4:
            name = key.removesuffix(".weight")
            kernel, bias = _fold_batch_norm(state, name)
            parameters[f"{name}.kernel"] = kernel
            parameters[f"{name}.bias"] = bias
    scale, shift = _batch_norm(state, "unet.encoder.bn")
    parameters["unet.encoder.bn.scale"] = scale
    parameters["unet.encoder.bn.shift"] = shift
    # The directions' input kernels become one product; the state kernels are batched.
    for part, letters, join in (("input", "ih", np.hstack), ("state", "hh", np.stack)):
        directions = [f"{letters}_l0", f"{letters}_l0_reverse"]
        kernels = [state[f"fc.0.gru.weight_{direction}"].T for direction in directions]
        biases = [state[f"fc.0.gru.bias_{direction}"] for direction in directions]
        parameters[f"fc.0.gru.{part}.kernel"] = join(kernels)
        parameters[f"fc.0.gru.{part}.bias"] = join(biases)
    parameters["fc.1.kernel"] = state["fc.1.weight"].T
    parameters["fc.1.bias"] = state["fc.1.bias"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in parameters.items()}


def _fold_batch_norm(
    state: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution; one without bias has a batch normalization behind it."""
    weight = state[f"{name}.weight"]
    is_transposed = name.endswith(".conv1.0")
    if is_transposed:
        kernel = _phases(weight.transpose(2, 3, 0, 1))
    else:
        kernel = weight.transpose(2, 3, 1, 0)
    if f"{name}.bias" in state:
        return kernel, state[f"{name}.bias"]
    stem, index = name.rsplit(".", 1)
    scale, shift = _batch_norm(state, f"{stem}.{int(index) + 1}")
    return kernel * np.tile(scale, kernel.shape[-1] // len(scale)), shift


def _batch_norm(state: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch normalization by its running statistics."""
    deviation = np.sqrt(state[f"{name}.running_var"] + _BATCH_NORM_EPSILON)
    scale = state[f"{name}.weight"] / deviation
    return scale, state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale


def _phases(kernel: np.ndarray) -> np.ndarray:
    """Turn a transposed kernel of stride 2 and padding 1 into one of a plain convolution.

    Even outputs see one input through the middle tap. Odd ones see it through the last tap, and the
    next input through the first.

    Args:
      kernel: [3, 3, in, out].

    Returns: [2, 2, in, 4 * out].
    """
    taps = np.zeros((2, 2, 3), np.float32)  # [input, phase, tap]
    taps[0, 0, 1] = taps[0, 1, 2] = taps[1, 1, 0] = 1
    phases = np.einsum("hpy,wqx,yxio->hwipqo", taps, taps, kernel)
    return phases.reshape(2, 2, kernel.shape[2], -1)
