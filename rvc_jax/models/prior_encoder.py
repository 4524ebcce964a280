"""Prior encoder: content features and coarse pitch -> mean and log-deviation of the latent
(`enc_p`).

A transformer with relative positions in a short window, as VITS (arXiv 2106.06103) took it from
Glow-TTS.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import PITCH_BINS, REFERENCE, GeneratorConfig, KernelConfig
from rvc_jax.models.kernels.activations import apply_mask, attention_weights, leaky_relu
from rvc_jax.models.layers import Conv, Embedding, LayerNorm, Linear
from rvc_jax.models.parameters import Normal, Uniform, declare_parameter

_EXACT = jax.lax.Precision.HIGHEST
"""Products with ones and zeros move numbers: those of float32 stay what they are."""


class RelativeAttention(nnx.Module):
    """Multi-head self-attention with learned keys and values for offsets of up to `window` frames
    (1803.02155)."""

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
        reach: int | None = None,
        ones: jax.Array | None = None,
    ) -> jax.Array:
        """x [batch, time, channels]; mask [batch, time, 1] -> [batch, time, channels].

        reach: frames on either side that a frame hears, `window` or more, and a divisor of time;
        None is all of them. ones: see `scatter_offsets`.
        """
        query = self._split(self.conv_q(x)) * self.width**-0.5
        key = self._split(self.conv_k(x))
        value = self._split(self.conv_v(x))
        if reach is None:
            heard = self._all_heard(query, key, value, mask, ones)
        else:
            heard = self._near(query, key, value, mask, reach)
        return self.conv_o(heard.reshape(x.shape))

    def _all_heard(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array,
        ones: jax.Array | None,
    ) -> jax.Array:
        """[batch, time, heads, width] of the same; mask [batch, time, 1]."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        near = jnp.einsum("bqhd,rd->bhqr", query, self.emb_rel_k[...][0].astype(query.dtype))
        allowed = (mask * mask.swapaxes(1, 2))[:, None] > 0
        weights = attention_weights(scores + scatter_offsets(near, self.window, ones), allowed)
        output = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return output + jnp.einsum(
            "bhqr,rd->bqhd",
            gather_offsets(weights, self.window, ones),
            self.emb_rel_v[...][0].astype(query.dtype),
        )

    def _near(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, reach: int
    ) -> jax.Array:
        """The same where a frame hears those up to `radius` away: `radius` frames at once look at
        the `3 * reach` around.

        The time that this takes grows with the length, not with its square.
        """
        keys, values, real = (_with_neighbors(x, reach) for x in (key, value, mask))
        query = query.reshape(query.shape[0], -1, reach, *query.shape[2:])
        near = jnp.einsum("bnqhd,rd->bnhqr", query, self.emb_rel_k[...][0].astype(query.dtype))
        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query, keys) + place_in_band(near, reach)
        distance = jnp.arange(3 * reach) - jnp.arange(reach, 2 * reach)[:, None]
        allowed = (jnp.abs(distance) <= reach) & (real[:, :, None, None, :, 0] > 0)
        weights = attention_weights(scores, allowed)
        output = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, values)
        offsets = pick_from_band(weights, reach, self.window)
        return output + jnp.einsum(
            "bnhqr,rd->bnqhd", offsets, self.emb_rel_v[...][0].astype(query.dtype)
        )

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, self.width)


def scatter_offsets(near: jax.Array, window: int, ones: jax.Array | None = None) -> jax.Array:
    """By offset [..., time, 2 window + 1] -> by key [..., time, time]; offsets outside the window
    are 0.

    ones: `offset_selector`, to do it by a product. Without: padded rows of one element more than
    the result's, read again at the result's length, each start one element later: that is the
    diagonal.
    """
    if ones is not None:
        return jnp.einsum("bhqr,qrk->bhqk", near, ones, precision=_EXACT)
    *leading, time, offsets = near.shape
    row = time + 2 * window
    padded = jnp.pad(near, [(0, 0)] * (near.ndim - 1) + [(0, row + 1 - offsets)])
    flat = padded.reshape(*leading, time * (row + 1))[..., : time * row]
    return flat.reshape(*leading, time, row)[..., window : window + time]


def gather_offsets(weights: jax.Array, window: int, ones: jax.Array | None = None) -> jax.Array:
    """The inverse of `scatter_offsets`: by key [..., time, time] -> by offset [..., time, 2 window
    + 1]."""
    if ones is not None:
        return jnp.einsum("bhqk,qrk->bhqr", weights, ones, precision=_EXACT)
    *leading, time, _ = weights.shape
    row = time + 2 * window
    flat = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(window, window)]).reshape(
        *leading, time * row
    )
    flat = jnp.pad(flat, [(0, 0)] * len(leading) + [(0, time)])
    return flat.reshape(*leading, time, row + 1)[..., : 2 * window + 1]


def offset_selector(time: int, window: int, dtype: jnp.dtype) -> jax.Array:
    """1 where key - query is the offset [query, offset, key], else 0."""
    query, offset, key = jnp.ogrid[:time, -window : window + 1, :time]
    return (key - query == offset).astype(dtype)


def _with_neighbors(x: jax.Array, reach: int) -> jax.Array:
    """[batch, time, ...] -> [batch, time / reach, 3 * reach, ...]: blocks with those before and
    behind them."""
    blocks = jnp.pad(x, [(0, 0), (reach, reach)] + [(0, 0)] * (x.ndim - 2))
    blocks = blocks.reshape(x.shape[0], -1, reach, *x.shape[2:])
    return jnp.concatenate([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], axis=2)


def place_in_band(near: jax.Array, reach: int) -> jax.Array:
    """As `scatter_offsets`, by key of a block's surroundings: [..., reach, 2 window + 1] -> [...,
    reach, 3 * reach]."""
    *leading, time, offsets = near.shape
    row = 3 * reach
    before = reach - offsets // 2
    padded = jnp.pad(near, [(0, 0)] * (near.ndim - 1) + [(before, row + 1 - before - offsets)])
    return padded.reshape(*leading, time * (row + 1))[..., : time * row].reshape(
        *leading, time, row
    )


def pick_from_band(weights: jax.Array, reach: int, window: int) -> jax.Array:
    """The inverse of `place_in_band`."""
    *leading, time, row = weights.shape
    flat = jnp.pad(weights.reshape(*leading, time * row), [(0, 0)] * len(leading) + [(0, time)])
    return flat.reshape(*leading, time, row + 1)[..., reach - window : reach + window + 1]


class FeedForward(nnx.Module):
    """Two convolutions with a ReLU between them."""

    def __init__(
        self, channels: int, filter_channels: int, kernel: int, forms: KernelConfig = REFERENCE
    ):
        self.conv_1 = Conv(channels, filter_channels, kernel, forms=forms)
        self.conv_2 = Conv(filter_channels, channels, kernel, forms=forms)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        hidden = leaky_relu(apply_mask(self.conv_1(apply_mask(x, mask)), mask), 0.0)
        return apply_mask(self.conv_2(hidden), mask)


class Transformer(nnx.Module):
    """Post-normalised transformer layers; lists are named as in VITS."""

    def __init__(self, config: GeneratorConfig, forms: KernelConfig = REFERENCE):
        self.scan = forms.scan
        self.by_products = forms.offsets == "products"
        channels = config.hidden_channels
        layers = range(config.attention_layers)
        self.attn_layers = nnx.List(
            [
                RelativeAttention(channels, config.attention_heads, config.attention_window)
                for _ in layers
            ]
        )
        self.norm_layers_1 = nnx.List([LayerNorm(channels) for _ in layers])
        self.ffn_layers = nnx.List(
            [
                FeedForward(channels, config.filter_channels, config.attention_kernel, forms)
                for _ in layers
            ]
        )
        self.norm_layers_2 = nnx.List([LayerNorm(channels) for _ in layers])

    def __call__(self, x: jax.Array, mask: jax.Array, reach: int | None = None) -> jax.Array:
        x = apply_mask(x, mask)
        ones = None  # one array for all layers
        if self.by_products and reach is None:
            ones = offset_selector(x.shape[1], self.attn_layers[0].window, x.dtype)
        layers = zip(
            self.attn_layers,
            self.norm_layers_1,
            self.ffn_layers,
            self.norm_layers_2,
            strict=True,
        )
        if self.scan:
            return apply_mask(self._scanned(x, mask, list(layers), reach, ones), mask)
        for layer in layers:
            x = _transformer_layer(layer, x, mask, reach, ones)
        return apply_mask(x, mask)

    @staticmethod
    def _scanned(
        x: jax.Array,
        mask: jax.Array,
        layers: list[tuple[nnx.Module, ...]],
        reach: int | None,
        ones: jax.Array | None,
    ) -> jax.Array:
        """The layers in a loop over their stacked parameters."""
        parts = [nnx.split(nnx.List(layer)) for layer in layers]
        graph = parts[0][0]
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *[state for _, state in parts]
        )
        step = lambda x, state: (
            _transformer_layer(nnx.merge(graph, state), x, mask, reach, ones),
            None,
        )
        return jax.lax.scan(step, x, stacked)[0]


def _transformer_layer(
    layer: tuple[nnx.Module, ...],
    x: jax.Array,
    mask: jax.Array,
    reach: int | None,
    ones: jax.Array | None,
) -> jax.Array:
    attention, norm_1, feed_forward, norm_2 = layer
    x = norm_1(x + attention(x, mask, reach, ones))
    return norm_2(x + feed_forward(x, mask))


class PriorEncoder(nnx.Module):
    """Content and coarse pitch -> the prior of the latent."""

    def __init__(self, config: GeneratorConfig, forms: KernelConfig = REFERENCE):
        self.emb_phone = Linear(config.content_channels, config.hidden_channels)
        if config.has_pitch:
            self.emb_pitch = Embedding(PITCH_BINS, config.hidden_channels)
        self.has_pitch = config.has_pitch
        self.encoder = Transformer(config, forms)
        self.proj = Conv(config.hidden_channels, 2 * config.inter_channels, 1)

    def __call__(
        self, content: jax.Array, pitch: jax.Array, mask: jax.Array, reach: int | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """content [batch, frames, content channels], coarse pitch int [batch, frames], mask [batch,
        frames, 1].

        A frame of content may be for several of the others. A voice without pitch does not look at
        it. reach: see `RelativeAttention`.

        Returns mean and log-deviation, both float32 [batch, frames, latent channels].
        """
        x = jnp.repeat(self.emb_phone(content), mask.shape[1] // content.shape[1], axis=1)
        if self.has_pitch:
            x = x + self.emb_pitch(pitch).astype(content.dtype)
        x = leaky_relu(x * math.sqrt(x.shape[-1]), 0.1)
        mean, log_deviation = jnp.split(
            apply_mask(self.proj(self.encoder(x, mask, reach)), mask), 2, axis=-1
        )
        return mean.astype(jnp.float32), log_deviation.astype(jnp.float32)
