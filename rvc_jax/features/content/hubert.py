"""HuBERT (arXiv 2106.07447), ContentVec (2204.09224) and Spin (2305.11072) as content encoders.

The network is that of fairseq and transformers. Parameters are a flat dict, made by
`hubert_weights`. Their names and shapes determine how the published models differ: the numbers of
layers and channels, and whether layers are normalized after every part (base), or before it, with a
normalization after each convolution too (large).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.errors import UserError
from rvc_jax.features.content import hubert_weights
from rvc_jax.features.framing import frame_mask, pad_rows_reflect, trim_to_frames
from rvc_jax.features.nn import (
    NORM_EPSILON,
    Parameters,
    convolution,
    gelu,
    layer_norm,
    linear,
    transformer_layer,
)

_V1_LAYERS = 9
_MARGIN = 40
"""Samples reflected at either end, so that the 400 samples that a frame sees are centered on its
320."""


class HubertContent:
    """A content encoder of the HuBERT family; see `features.content.ContentEncoder`.

    A row is cut to whole frames of 320 samples and reflected by 40 samples at both ends. Its level
    is not changed.
    """

    def __init__(
        self,
        parameters: dict[str, np.ndarray],
        fingerprint: str,
        version: Literal["v1", "v2"] = "v2",
        name: str = "hubert",
        layer: int | None = None,
    ):
        """Make an encoder of the given parameters.

        Args:
          parameters: as `hubert_weights.from_state_dict` makes them.
          fingerprint: hash of the weights.
          version: "v2" for the last layer, "v1" for the ninth followed by the final projection (256
            channels).
          name: the user's name for it.
          layer: number of the layer, from 1 on, in the place of the version's own.

        Raises:
          UserError: the model lacks the layer, or what v1 needs.
        """
        parameters = _select_layers(parameters, version, name, layer)
        self._parameters = {
            key: jnp.asarray(array, jnp.float32) for key, array in parameters.items()
        }
        last = "projection" if version == "v2" else "final_projection"
        self.name = name
        self.channels = self._parameters[f"{last}.kernel"].shape[1]
        # Features are cached by this hash: its text must not change.
        settings = f"{fingerprint} {version}, {_MARGIN} reflected"
        if layer is not None:
            settings += f", layer {layer}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()

    @classmethod
    def load(
        cls, name: str, version: Literal["v1", "v2"] = "v2", layer: int | None = None
    ) -> HubertContent:
        """Load a registered name, a folder, a file or OWNER/NAME on the hub.

        See `hubert_weights.load`.
        """
        return cls(*hubert_weights.load(name), version, name, layer)

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Compute content features; see `features.content.ContentEncoder`."""
        return np.asarray(compute_content(self._parameters, *trim_to_frames(audio, lengths)))


def _select_layers(
    parameters: dict[str, np.ndarray],
    version: Literal["v1", "v2"],
    name: str,
    layer: int | None,
) -> dict[str, np.ndarray]:
    """The parameters up to a layer, with the final projection for v1 alone."""
    if version == "v1":
        _check_v1(parameters, name)
        last = layer or _V1_LAYERS
    else:
        last = layer or hubert_weights.layers(parameters)
    if not 1 <= last <= hubert_weights.layers(parameters):
        raise UserError(
            f"{name}: the voice takes layer {last} of its content encoder, and this one has "
            f"{hubert_weights.layers(parameters)}"
        )

    def is_needed(key: str) -> bool:
        found = re.match(r"layers\.(\d+)\.", key)
        if key.startswith("final_projection."):
            return version == "v1"
        return found is None or int(found[1]) < last

    return {key: array for key, array in parameters.items() if is_needed(key)}


def _check_v1(parameters: dict[str, np.ndarray], name: str) -> None:
    if "final_projection.kernel" not in parameters:
        raise UserError(
            f"{name}: this model has no final projection, which v1 voices need; take contentvec, "
            "or v2"
        )
    if hubert_weights.layers(parameters) < _V1_LAYERS or normalizes_first(parameters):
        raise UserError(
            f"{name}: v1 voices take the ninth layer of a HuBERT base, which this is not; take v2"
        )


@jax.jit
def compute_content(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Pad rows by reflection and `encode` them: [batch, samples // 320, channels]."""
    padded = pad_rows_reflect(audio, lengths, _MARGIN, _MARGIN)
    return encode(parameters, padded, lengths + 2 * _MARGIN)


def encode(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Run all layers that there are parameters for, and the final projection if it is among them.

    Nothing is added at the ends of a row. Its frames do not depend on the samples behind its
    length; the frames behind its end are finite.

    Args:
      parameters: as `hubert_weights.from_state_dict` makes them.
      audio: [batch, samples] at 16 kHz.
      lengths: int [batch], samples of each row.

    Returns: float32 [batch, frames, channels]; one frame per 320 samples, as long as it has all its
      400 samples.
    """
    with jax.default_matmul_precision("float32"):
        # Row by row: the first convolutions' outputs take the most memory (22 MB for 3.36 s), and
        # those of one row fit a CPU's cache.
        x = lax.map(lambda row: _convolutions(parameters, *row), (audio, lengths))
        x = linear(parameters, "projection", layer_norm(parameters, "projection.norm", x))
        valid = frame_mask(x, _frame_count(lengths, hubert_weights.CONV_KERNELS))
        x = _transformer(parameters, jnp.where(valid[..., None], x, 0), valid)
        if "final_projection.kernel" in parameters:
            x = linear(parameters, "final_projection", x)
        return x


def normalizes_first(parameters: Mapping[str, Any]) -> bool:
    """Whether layers are normalized before every part: the models that normalize all convolutions
    (large)."""
    return "conv.1.norm.scale" in parameters


def _convolutions(parameters: Parameters, audio: jax.Array, length: jax.Array) -> jax.Array:
    """Audio [samples] -> [frames, channels]."""
    x = audio[None, :, None]
    for i, stride in enumerate(hubert_weights.CONV_STRIDES):
        x = convolution(parameters, f"conv.{i}", x, stride, [(0, 0)])
        if normalizes_first(parameters):
            x = layer_norm(parameters, f"conv.{i}.norm", x)
        elif i == 0:
            frames = _frame_count(length, hubert_weights.CONV_KERNELS[:1])
            x = _time_norm(parameters, "conv.0.norm", x, frames)
        x = gelu(x)
    return x[0]


def _frame_count(samples: jax.Array, kernels: tuple[int, ...]) -> jax.Array:
    """Frames that the first convolutions, with these kernels, make of a number of samples."""
    for kernel, stride in zip(kernels, hubert_weights.CONV_STRIDES, strict=False):
        samples = (samples - kernel) // stride + 1
    return samples


def _time_norm(parameters: Parameters, name: str, x: jax.Array, frames: jax.Array) -> jax.Array:
    """Normalize every channel of x [1, time, channels] by its statistics over the first frames."""
    valid = (jnp.arange(x.shape[1]) < frames)[:, None]
    centered = x - jnp.where(valid, x, 0).sum(axis=1, keepdims=True) / frames
    variance = jnp.where(valid, jnp.square(centered), 0).sum(axis=1, keepdims=True) / frames
    scale = lax.rsqrt(variance + NORM_EPSILON) * parameters[f"{name}.scale"]
    return centered * scale + parameters[f"{name}.bias"]


def _transformer(parameters: Parameters, x: jax.Array, valid: jax.Array) -> jax.Array:
    """Frames x [batch, time, channels], zero where not valid [batch, time]."""
    norm_first = normalizes_first(parameters)
    taps, inputs, _ = parameters["position.kernel"].shape
    padding = [(taps // 2, (taps - 1) // 2)]
    groups = x.shape[2] // inputs
    position = convolution(parameters, "position", x, 1, padding, groups)
    x = x + gelu(position)
    if not norm_first:
        x = layer_norm(parameters, "norm", x)
    for i in range(hubert_weights.layers(parameters)):
        x = transformer_layer(parameters, f"layers.{i}", x, valid, norm_first)
    return layer_norm(parameters, "norm", x) if norm_first else x
