"""Discriminators of HiFi-GAN (arXiv 2010.05646): one over the waveform's scale, several over its periods."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import PLAIN, DiscriminatorConfig, Forms
from rvc_jax.models.activations import leaky_relu
from rvc_jax.models.convolution import fold
from rvc_jax.models.layers import Conv

Judgement = tuple[jax.Array, list[jax.Array]]
"""Scores [batch, positions], and the feature maps of every layer, the scores' included."""


class ScaleDiscriminator(nnx.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, config: DiscriminatorConfig, forms: Forms = PLAIN):
        self.fold_to = forms.fold_to
        inputs = (1, *config.scale_channels)
        layers = zip(config.scale_kernels, config.scale_strides, config.scale_groups, strict=True)
        self.convs = nnx.List([
            Conv(inputs[i], inputs[i + 1], kernel, stride=stride, padding=kernel // 2, groups=groups, normed=True,
                 forms=forms)
            for i, (kernel, stride, groups) in enumerate(layers)
        ])  # fmt: skip
        self.conv_post = Conv(inputs[-1], 1, 3, normed=True)

    def __call__(self, wave: jax.Array) -> Judgement:
        return _judge(wave[..., None], self.convs, self.conv_post, self.fold_to)


class PeriodDiscriminator(nnx.Module):
    """Convolutions over every `period`-th sample; the phases of the period are folded into the batch."""

    def __init__(self, config: DiscriminatorConfig, period: int, forms: Forms = PLAIN):
        self.period = period
        inputs = (1, *config.period_channels)
        strides = [config.period_stride] * (len(config.period_channels) - 1) + [1]
        self.convs = nnx.List([
            Conv(inputs[i], inputs[i + 1], config.period_kernel, stride=stride, padding=config.period_kernel // 2,
                 normed=True, public_trailing=1, forms=forms)
            for i, stride in enumerate(strides)
        ])  # fmt: skip
        self.conv_post = Conv(inputs[-1], 1, 3, normed=True, public_trailing=1)

    def __call__(self, wave: jax.Array) -> Judgement:
        batch, samples = wave.shape
        wave = jnp.pad(wave, ((0, 0), (0, -samples % self.period)), mode="reflect")
        columns = wave.reshape(batch, -1, self.period).swapaxes(1, 2).reshape(batch * self.period, -1, 1)
        score, maps = _judge(columns, self.convs, self.conv_post)
        # Positions in time order, the phases of one time beside each other, as the public networks count them.
        return score.reshape(batch, self.period, -1).swapaxes(1, 2).reshape(batch, -1), maps


def _judge(x: jax.Array, convs: nnx.List, conv_post: Conv, fold_to: int = 0) -> Judgement:
    """Maps of layers with few channels come folded: what is compared with them is so, too."""
    maps = []
    for conv in convs:
        x = leaky_relu(_maybe_folded(x, conv, fold_to), 0.1)
        maps.append(x)
    x = conv_post(fold(x, conv_post.inputs, 1))
    return x[..., 0], [*maps, x]


def _maybe_folded(x: jax.Array, conv: Conv, fold_to: int) -> jax.Array:
    """A layer of a signal that may be folded; folded where it has few inputs and the time divides, but not groups with
    outputs enough: folded they would be one dense kernel, mostly zeros."""
    factor = max(fold_to // conv.outputs, 1)
    time = x.shape[1] * x.shape[2] // conv.inputs
    full = conv.groups > 1 and factor == 1
    if full or conv.inputs >= fold_to or time % (factor * conv.stride):
        return conv(fold(x, conv.inputs, 1))
    return conv.folded(fold(x, conv.inputs, factor * conv.stride), factor)


class Discriminator(nnx.Module):
    """The scale discriminator and one discriminator for every period."""

    def __init__(self, config: DiscriminatorConfig, forms: Forms = PLAIN):
        periods = [PeriodDiscriminator(config, period, forms) for period in config.periods]
        self.discriminators = nnx.List([ScaleDiscriminator(config, forms), *periods])

    def judge(self, wave: jax.Array) -> list[Judgement]:
        """wave [batch, samples], in the dtype to compute in -> one judgement per sub-discriminator."""
        judgements = []
        for number, discriminator in enumerate(self.discriminators):
            with jax.named_scope(f"discriminators.{number}"):
                judgements.append(discriminator(wave))
        return judgements
