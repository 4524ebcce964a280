"""Discriminators of HiFi-GAN (arXiv 2010.05646): one over the waveform's scale, several over its periods."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import DiscriminatorConfig
from rvc_jax.models.layers import Conv

Judgement = tuple[jax.Array, list[jax.Array]]
"""Scores [batch, positions], and the feature maps of every layer, the scores' included."""


class ScaleDiscriminator(nnx.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, config: DiscriminatorConfig):
        inputs = (1, *config.scale_channels)
        layers = zip(config.scale_kernels, config.scale_strides, config.scale_groups, strict=True)
        self.convs = nnx.List([
            Conv(inputs[i], inputs[i + 1], kernel, stride=stride, padding=kernel // 2, groups=groups, normed=True)
            for i, (kernel, stride, groups) in enumerate(layers)
        ])  # fmt: skip
        self.conv_post = Conv(inputs[-1], 1, 3, normed=True)

    def __call__(self, wave: jax.Array) -> Judgement:
        return _judge(wave[..., None], self.convs, self.conv_post)


class PeriodDiscriminator(nnx.Module):
    """Convolutions over every `period`-th sample; the phases of the period are folded into the batch."""

    def __init__(self, config: DiscriminatorConfig, period: int):
        self.period = period
        inputs = (1, *config.period_channels)
        strides = [config.period_stride] * (len(config.period_channels) - 1) + [1]
        self.convs = nnx.List([
            Conv(inputs[i], inputs[i + 1], config.period_kernel, stride=stride, padding=config.period_kernel // 2,
                 normed=True, public_trailing=1)
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


def _judge(x: jax.Array, convs: nnx.List, conv_post: Conv) -> Judgement:
    maps = []
    for conv in convs:
        x = jax.nn.leaky_relu(conv(x), 0.1)
        maps.append(x)
    x = conv_post(x)
    return x[..., 0], [*maps, x]


class Discriminator(nnx.Module):
    """The scale discriminator and one discriminator for every period."""

    def __init__(self, config: DiscriminatorConfig):
        periods = [PeriodDiscriminator(config, period) for period in config.periods]
        self.discriminators = nnx.List([ScaleDiscriminator(config), *periods])

    def judge(self, wave: jax.Array) -> list[Judgement]:
        """wave [batch, samples], in the dtype to compute in -> one judgement per sub-discriminator."""
        return [discriminator(wave) for discriminator in self.discriminators]
