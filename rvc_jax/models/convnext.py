"""ConvNeXt blocks over time, conditioned on the speaker.

The blocks are those of arXiv 2201.03545, over time as in Vocos (arXiv 2306.00814).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.models.layers import Linear
from rvc_jax.models.parameters import Constant, Normal, declare_parameter

EPSILON = 1e-5
"""Added to the variance in `normalize`."""


class DepthwiseConv(nnx.Module):
    """One filter per channel: [batch, time, channels] -> the same shape, zeros at the edges."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        """Declares the filters. kernel: number of taps, odd."""
        self.dilation = dilation
        init = Normal(1.0 / math.sqrt(kernel))
        self.weight = declare_parameter((kernel, channels), init, (0, 1))
        self.bias = declare_parameter((channels,), Constant(0.0), (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x and result [batch, time, channels]."""
        weight = self.weight[...].astype(x.dtype)
        taps = weight.shape[0]
        margin = taps // 2 * self.dilation
        padded = jnp.pad(x, ((0, 0), (margin, margin), (0, 0)))
        # Shifted products: XLA fuses them to one pass. Its grouped convolution is slow on CPUs.
        shifted = [
            padded[:, tap * self.dilation :][:, : x.shape[1]] * weight[tap]
            for tap in range(taps)
        ]
        return sum(shifted[1:], shifted[0]) + self.bias[...].astype(x.dtype)


class ConvNextBlock(nnx.Module):
    """A depthwise convolution and a pointwise network, around a skip.

    The normalization's scale and offset come from the speaker (AdaIN, arXiv 1703.06868).
    """

    def __init__(
        self, channels: int, speaker_channels: int, kernel: int, dilation: int, expansion: int
    ):
        """Declares the layers. expansion: width of the pointwise network, in channels of x."""
        self.depthwise = DepthwiseConv(channels, kernel, dilation)
        self.condition = Linear(
            speaker_channels, 2 * channels, Normal(0.1 / math.sqrt(speaker_channels))
        )
        hidden = expansion * channels
        self.expand = Linear(channels, hidden, Normal(1.0 / math.sqrt(channels)))
        self.contract = Linear(hidden, channels, Normal(0.3 / math.sqrt(hidden)))

    def __call__(self, x: jax.Array, speaker: jax.Array) -> jax.Array:
        """x and result [batch, time, channels], speaker [batch, 1, speaker channels]."""
        scale, offset = jnp.split(self.condition(speaker), 2, axis=-1)
        y = normalize(self.depthwise(x)) * (1 + scale) + offset
        return x + self.contract(jax.nn.gelu(self.expand(y)))


def normalize(x: jax.Array) -> jax.Array:
    """Returns x [..., channels] with mean 0 and variance 1 over channels, computed in float32."""
    values = x.astype(jnp.float32)
    centered = values - values.mean(axis=-1, keepdims=True)
    variance = jnp.square(centered).mean(axis=-1, keepdims=True)
    return (centered * jax.lax.rsqrt(variance + EPSILON)).astype(x.dtype)
