"""Prior encoder: content features and coarse pitch -> mean and log-deviation (`enc_p`).

A transformer with relative positions in a short window, as VITS (arXiv 2106.06103) took it from
Glow-TTS.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import PITCH_BINS, GeneratorConfig
from rvc_jax.models.kernels.activations import apply_mask, attention_weights, leaky_relu
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.kernels.relative_offsets import (
    gather_offsets,
    offset_selector,
    pick_from_band,
    place_in_band,
    scatter_offsets,
    with_neighbors,
)
from rvc_jax.models.kernels.scan import scan_layers
from rvc_jax.models.layers import Conv, Embedding, LayerNorm, Linear
from rvc_jax.models.parameters import Normal, Uniform, declare_parameter


class RelativeAttention(nnx.Module):
    """Multi-head self-attention with relative positions (arXiv 1803.02155).

    Keys and values have learned embeddings for offsets of up to `window` frames.
    """

    def __init__(self, channels: int, heads: int, window: int):
        self.heads = heads
        self.window = window
        self.width = channels // heads
        xavier = Uniform(math.sqrt(6.0 / (2 * channels)))
        self.conv_q = Conv(channels, channels, 1, init=xavier)
        self.conv_k = Conv(channels, channels, 1, init=xavier)
        self.conv_v = Conv(channels, channels, 1, init=xavier)
        self.conv_o = Conv(channels, channels, 1)
        shape = (1, 2 * window + 1, self.width)
        init = Normal(self.width**-0.5)
        self.emb_rel_k = declare_parameter(shape, init, (0, 1, 2))
        self.emb_rel_v = declare_parameter(shape, init, (0, 1, 2))

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        radius: int | None = None,
        selector: jax.Array | None = None,
    ) -> jax.Array:
        """x and result [batch, time, channels], mask [batch, time, 1].

        radius: frames on either side that a frame attends to, at least `window` and a divisor of
          time. None: all frames.
        selector: `offset_selector` for this time, to move scores by products.
        """
        query = self._split_heads(self.conv_q(x)) * self.width**-0.5
        key = self._split_heads(self.conv_k(x))
        value = self._split_heads(self.conv_v(x))
        if radius is None:
            y = self._attend_globally(query, key, value, mask, selector)
        else:
            y = self._attend_locally(query, key, value, mask, radius)
        return self.conv_o(y.reshape(x.shape))

    def _attend_globally(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array,
        selector: jax.Array | None,
    ) -> jax.Array:
        """Query, key, value and result [batch, time, heads, width], mask [batch, time, 1]."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        key_offsets = self.emb_rel_k[...][0].astype(query.dtype)
        near = jnp.einsum("bqhd,rd->bhqr", query, key_offsets)
        allowed = (mask * mask.swapaxes(1, 2))[:, None] > 0
        scores = scores + scatter_offsets(near, self.window, selector)
        weights = attention_weights(scores, allowed)
        output = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        offsets = gather_offsets(weights, self.window, selector)
        value_offsets = self.emb_rel_v[...][0].astype(query.dtype)
        return output + jnp.einsum("bhqr,rd->bqhd", offsets, value_offsets)

    def _attend_locally(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array,
        radius: int,
    ) -> jax.Array:
        """Attends to the frames up to `radius` away; shapes as in `_attend_globally`.

        Blocks of `radius` frames attend to the `3 * radius` frames around them, so time and memory
        grow with the length, not with its square.
        """
        keys = with_neighbors(key, radius)
        values = with_neighbors(value, radius)
        real = with_neighbors(mask, radius)
        query = query.reshape(query.shape[0], -1, radius, *query.shape[2:])
        key_offsets = self.emb_rel_k[...][0].astype(query.dtype)
        near = jnp.einsum("bnqhd,rd->bnhqr", query, key_offsets)
        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query, keys)
        scores = scores + place_in_band(near, radius)
        distance = jnp.arange(3 * radius) - jnp.arange(radius, 2 * radius)[:, None]
        allowed = (jnp.abs(distance) <= radius) & (real[:, :, None, None, :, 0] > 0)
        weights = attention_weights(scores, allowed)
        output = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, values)
        offsets = pick_from_band(weights, radius, self.window)
        value_offsets = self.emb_rel_v[...][0].astype(query.dtype)
        return output + jnp.einsum("bnhqr,rd->bnqhd", offsets, value_offsets)

    def _split_heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, self.width)


class FeedForward(nnx.Module):
    """Two convolutions with a ReLU between them."""

    def __init__(
        self,
        channels: int,
        filter_channels: int,
        kernel: int,
        kernels: KernelConfig = REFERENCE,
    ):
        """Declares the layers. kernel: number of taps."""
        self.conv_1 = Conv(channels, filter_channels, kernel, kernels=kernels)
        self.conv_2 = Conv(filter_channels, channels, kernel, kernels=kernels)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x and result [batch, time, channels], mask [batch, time, 1]."""
        x = apply_mask(self.conv_1(apply_mask(x, mask)), mask)
        x = leaky_relu(x, 0.0)
        return apply_mask(self.conv_2(x), mask)


Layer = tuple[RelativeAttention, LayerNorm, FeedForward, LayerNorm]


class Transformer(nnx.Module):
    """Post-normalized transformer layers; the lists are named as in VITS."""

    def __init__(self, config: GeneratorConfig, kernels: KernelConfig = REFERENCE):
        self.kernels = kernels
        channels = config.hidden_channels
        self.attn_layers = nnx.List()
        self.norm_layers_1 = nnx.List()
        self.ffn_layers = nnx.List()
        self.norm_layers_2 = nnx.List()
        for _ in range(config.attention_layers):
            self.attn_layers.append(
                RelativeAttention(channels, config.attention_heads, config.attention_window)
            )
            self.norm_layers_1.append(LayerNorm(channels))
            self.ffn_layers.append(
                FeedForward(channels, config.filter_channels, config.attention_kernel, kernels)
            )
            self.norm_layers_2.append(LayerNorm(channels))

    def __call__(self, x: jax.Array, mask: jax.Array, radius: int | None = None) -> jax.Array:
        """x and result [batch, time, channels], mask [batch, time, 1].

        radius: see `RelativeAttention`.
        """
        x = apply_mask(x, mask)
        selector = None  # one array for all layers
        if self.kernels.offsets == "products" and radius is None:
            selector = offset_selector(x.shape[1], self.attn_layers[0].window, x.dtype)

        def apply(layer: Layer, x: jax.Array) -> jax.Array:
            attention, norm_1, feed_forward, norm_2 = layer
            x = norm_1(x + attention(x, mask, radius, selector))
            return norm_2(x + feed_forward(x, mask))

        layers = zip(
            self.attn_layers,
            self.norm_layers_1,
            self.ffn_layers,
            self.norm_layers_2,
            strict=True,
        )
        if self.kernels.scan:
            x = scan_layers(apply, layers, x)
        else:
            for layer in layers:
                x = apply(layer, x)
        return apply_mask(x, mask)


class PriorEncoder(nnx.Module):
    """Content and coarse pitch -> the prior of the latent."""

    def __init__(self, config: GeneratorConfig, kernels: KernelConfig = REFERENCE):
        self.emb_phone = Linear(config.content_channels, config.hidden_channels)
        if config.has_pitch:
            self.emb_pitch = Embedding(PITCH_BINS, config.hidden_channels)
        self.has_pitch = config.has_pitch
        self.encoder = Transformer(config, kernels)
        self.proj = Conv(config.hidden_channels, 2 * config.inter_channels, 1)

    def __call__(
        self,
        content: jax.Array,
        pitch: jax.Array,
        mask: jax.Array,
        radius: int | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log-deviation, both float32 [batch, frames, latent channels].

        content [batch, frames / n, content channels]: each counts for n frames.
        pitch [batch, frames]: integers, ignored by a voice without pitch.
        mask [batch, frames, 1]. radius: see `RelativeAttention`.
        """
        x = self.emb_phone(content)
        x = jnp.repeat(x, mask.shape[1] // content.shape[1], axis=1)
        if self.has_pitch:
            x = x + self.emb_pitch(pitch).astype(content.dtype)
        x = leaky_relu(x * math.sqrt(x.shape[-1]), 0.1)
        x = self.encoder(x, mask, radius)
        mean, log_deviation = jnp.split(apply_mask(self.proj(x), mask), 2, axis=-1)
        return mean.astype(jnp.float32), log_deviation.astype(jnp.float32)
