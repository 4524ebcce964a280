"""HuBERT (arXiv 2106.07447) and its kin, ContentVec (2204.09224) and Spin (2305.11072), as content
encoders.

The network as in fairseq and transformers. Parameters are a flat dict, made by `hubert_weights`.
Their names and shapes tell all in which the published models differ: numbers of layers and
channels, and whether layers are normalised after every part (base), or before, with a normalisation
after each convolution too (large).
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.errors import UserError
from rvc_jax.features.content import hubert_weights
from rvc_jax.features.framing import pad_rows_reflect
from rvc_jax.features.nn import (
    NORM_EPSILON,
    Parameters,
    frame_mask,
    gelu,
    layer_norm,
    linear,
    transformer_layer,
    trim_to_frames,
)

_V1_LAYERS = 9
_MARGIN = 40
"""Samples reflected at either end: the 400 samples that a frame sees are then centred on its
320."""


class HubertContent:
    """A content encoder of the HuBERT family; see `features.content.ContentEncoder`.

    A row is cut to whole frames of 320 samples and reflected by 40 samples at both ends; its level
    is left as it is.
    """

    def __init__(
        self,
        parameters: dict[str, np.ndarray],
        fingerprint: str,
        version: Literal["v1", "v2"] = "v2",
        name: str = "hubert",
    ):
        """An encoder of the given parameters.

        Args:
          parameters: as `hubert_weights.from_state_dict` makes them.
          fingerprint: hash of the weights.
          version: "v2" for the last layer, "v1" for the ninth followed by the final projection (256
              channels).
          name: what the user calls it.

        Raises UserError if the model has not what v1 takes.
        """
        if version == "v1":
            parameters = _select_v1_layers(parameters, name)
        else:
            parameters = {
                key: array
                for key, array in parameters.items()
                if not key.startswith("final_projection.")
            }
        self._parameters = {
            key: jnp.asarray(array, jnp.float32) for key, array in parameters.items()
        }
        last = "projection" if version == "v2" else "final_projection"
        self.name = name
        self.channels = self._parameters[f"{last}.kernel"].shape[1]
        self.fingerprint = hashlib.sha256(
            f"{fingerprint} {version}, {_MARGIN} reflected".encode()
        ).hexdigest()

    @classmethod
    def load(cls, name: str, version: Literal["v1", "v2"] = "v2") -> HubertContent:
        """The encoder of a registered name, a folder, a file or OWNER/NAME on the hub; see
        `hubert_weights.load`."""
        return cls(*hubert_weights.load(name), version, name)

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_content(self._parameters, *trim_to_frames(audio, lengths)))


def _select_v1_layers(parameters: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    if "final_projection.kernel" not in parameters:
        raise UserError(
            f"{name}: this model has no final projection, which v1 voices need; take contentvec, or v2"
        )
    if hubert_weights.layers(parameters) < _V1_LAYERS or normalizes_first(parameters):
        raise UserError(
            f"{name}: v1 voices take the ninth layer of a HuBERT base, which this is not; take v2"
        )
    behind = re.compile(r"layers\.(\d+)\.")
    number = {key: int(match[1]) for key in parameters if (match := behind.match(key))}
    return {key: array for key, array in parameters.items() if number.get(key, 0) < _V1_LAYERS}


@jax.jit
def _content(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    return encode(
        parameters, pad_rows_reflect(audio, lengths, _MARGIN, _MARGIN), lengths + 2 * _MARGIN
    )


def encode(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Audio [batch, samples] at 16 kHz, rows of `lengths` [batch] samples -> float32 [batch,
    frames, channels].

    The output of all the layers that there are parameters for, and of the final projection if it is
    among them. One frame per 320 samples, as many as have all their 400. Nothing is added at the
    ends. A row's frames do not depend on what lies behind its length; those behind are finite.
    """
    with jax.default_matmul_precision("float32"):
        # Row by row: the first convolutions' outputs (22 MB for 3.36 s) are what takes memory, and
        # then fit the cache.
        x = lax.map(lambda row: _convolutions(parameters, *row), (audio, lengths))
        x = linear(parameters, "projection", layer_norm(parameters, "projection.norm", x))
        valid = frame_mask(x, _frames(lengths, hubert_weights.CONV_KERNELS))
        x = _transformer(parameters, jnp.where(valid[..., None], x, 0), valid)
        return (
            linear(parameters, "final_projection", x)
            if "final_projection.kernel" in parameters
            else x
        )


def normalizes_first(parameters: Parameters | dict[str, np.ndarray]) -> bool:
    """Whether layers are normalised before every part: the models that normalise all convolutions
    (large)."""
    return "conv.1.norm.scale" in parameters


def _convolutions(parameters: Parameters, audio: jax.Array, length: jax.Array) -> jax.Array:
    """Audio [samples] -> [frames, channels]."""
    x = audio[None, :, None]
    for i, stride in enumerate(hubert_weights.CONV_STRIDES):
        x = _conv(parameters, f"conv.{i}", x, stride, (0, 0))
        if normalizes_first(parameters):
            x = layer_norm(parameters, f"conv.{i}.norm", x)
        elif i == 0:
            x = _time_norm(
                parameters, "conv.0.norm", x, _frames(length, hubert_weights.CONV_KERNELS[:1])
            )
        x = gelu(x)
    return x[0]


def _frames(samples: jax.Array, kernels: tuple[int, ...]) -> jax.Array:
    """How many frames the first convolutions, of these kernels, make of so many samples."""
    for kernel, stride in zip(kernels, hubert_weights.CONV_STRIDES, strict=False):
        samples = (samples - kernel) // stride + 1
    return samples


def _time_norm(parameters: Parameters, name: str, x: jax.Array, frames: jax.Array) -> jax.Array:
    """Normalises every channel of x [1, time, channels] by its mean and variance over the first
    frames."""
    valid = (jnp.arange(x.shape[1]) < frames)[:, None]
    centred = x - jnp.where(valid, x, 0).sum(axis=1, keepdims=True) / frames
    variance = jnp.where(valid, jnp.square(centred), 0).sum(axis=1, keepdims=True) / frames
    return (
        centred * (lax.rsqrt(variance + NORM_EPSILON) * parameters[f"{name}.scale"])
        + parameters[f"{name}.bias"]
    )


def _transformer(parameters: Parameters, x: jax.Array, valid: jax.Array) -> jax.Array:
    """Frames x [batch, time, channels], zero where not valid [batch, time]."""
    norm_first = normalizes_first(parameters)
    width = parameters["position.kernel"].shape[0]
    x = x + gelu(_conv(parameters, "position", x, 1, (width // 2, (width - 1) // 2)))
    x = x if norm_first else layer_norm(parameters, "norm", x)
    for i in range(hubert_weights.layers(parameters)):
        x = transformer_layer(parameters, f"layers.{i}", x, valid, norm_first)
    return layer_norm(parameters, "norm", x) if norm_first else x


def _conv(
    parameters: Parameters, name: str, x: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    kernel = parameters[f"{name}.kernel"]
    groups = x.shape[2] // kernel.shape[1]
    # On CPUs this is faster than matrix products over gathered taps for every layer here, the
    # grouped one included.
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [padding],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )
    return y + parameters[f"{name}.bias"] if f"{name}.bias" in parameters else y
