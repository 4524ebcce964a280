"""RVC's networks in plain PyTorch: the reference that the JAX networks are tested against and timed
beside.

Parameter names, shapes and order are those of the public RVC checkpoints, weight normalization in
its legacy spelling (`weight_g`, `weight_v`), so a checkpoint loads with `load_state_dict`.
Architecture: VITS (arXiv 2106.06103), HiFi-GAN (arXiv 2010.05646), relative attention (arXiv
1803.02155), neural source-filter (arXiv 1904.12088). All sizes come from `rvc_jax.config`. Layout
is PyTorch's: [batch, channels, time].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor, nn

from rvc_jax.config import AudioConfig, DiscriminatorConfig, GeneratorConfig

SLOPE = 0.1
"""Slope of every leaky ReLU but the generator's last."""


class NormedConv(nn.Module):
    """A convolution whose weight is g * v / ||v||, the norm taken over all axes but the first.

    `shape` is that of `weight_v`, `options` are the arguments of `function` (stride, padding, ...).
    """

    def __init__(
        self,
        function: Callable,
        shape: tuple[int, ...],
        outputs: int,
        std: float | None = None,
        **options,
    ):
        super().__init__()
        self.function = function
        self.options = options
        self.bias = nn.Parameter(torch.zeros(outputs))
        weight = torch.empty(shape)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5)) if std is None else nn.init.normal_(
            weight, 0.0, std
        )
        self.weight_g = nn.Parameter(
            weight.flatten(1).norm(dim=1).view(-1, *[1] * (len(shape) - 1))
        )
        self.weight_v = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch._weight_norm(
            self.weight_v, self.weight_g, 0
        )  # the fused kernel of torch.nn.utils.weight_norm
        return self.function(x, weight, self.bias, **self.options)


def normed_conv1d(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, **options
) -> NormedConv:
    """Weight-normalized Conv1d with "same" padding (at stride 1)."""
    shape = (outputs, inputs // options.get("groups", 1), kernel)
    return NormedConv(
        F.conv1d,
        shape,
        outputs,
        dilation=dilation,
        padding=dilation * (kernel - 1) // 2,
        **options,
    )


# --- prior encoder ---


class LayerNorm(nn.Module):
    """Layer normalization over the channels of [B, C, T], with the parameter names of VITS."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.mT, self.gamma.shape, self.gamma, self.beta, 1e-5).mT


class RelativeAttention(nn.Module):
    """Multi-head self-attention with learned embeddings of the offsets -window..window, shared by
    the heads."""

    def __init__(self, channels: int, heads: int, window: int):
        super().__init__()
        self.heads = heads
        self.window = window
        size = channels // heads
        self.emb_rel_k = nn.Parameter(torch.randn(1, 2 * window + 1, size) * size**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 2 * window + 1, size) * size**-0.5)
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (
            nn.Conv1d(channels, channels, 1) for _ in range(4)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, channels, time = x.shape
        split = (batch, self.heads, channels // self.heads, time)
        query, key, value = (
            conv(x).view(split).mT for conv in (self.conv_q, self.conv_k, self.conv_v)
        )
        query = query / math.sqrt(split[2])
        scores = query @ key.mT + self._to_absolute(
            query @ self._offsets(self.emb_rel_k, time).mT
        )
        pairs = mask.unsqueeze(2) * mask.unsqueeze(3)
        weights = scores.masked_fill(pairs == 0, -1e4).softmax(-1)
        y = weights @ value + self._to_relative(weights) @ self._offsets(self.emb_rel_v, time)
        return self.conv_o(y.mT.reshape(batch, channels, time))

    def _offsets(self, embedding: Tensor, time: int) -> Tensor:
        """Embeddings of the offsets -(time-1)..time-1; zero outside the window."""
        missing = time - 1 - self.window
        return F.pad(embedding, (0, 0, missing, missing))

    @staticmethod
    def _to_absolute(x: Tensor) -> Tensor:
        """[B, H, T, 2T-1] by offset -> [B, H, T, T] by position: row i is shifted by i in one
        reshape."""
        batch, heads, time, _ = x.shape
        flat = F.pad(F.pad(x, (0, 1)).flatten(2), (0, time - 1))
        return flat.view(batch, heads, time + 1, 2 * time - 1)[:, :, :time, time - 1 :]

    @staticmethod
    def _to_relative(x: Tensor) -> Tensor:
        """[B, H, T, T] by position -> [B, H, T, 2T-1] by offset."""
        batch, heads, time, _ = x.shape
        flat = F.pad(F.pad(x, (0, time - 1)).flatten(2), (time, 0))
        return flat.view(batch, heads, time, 2 * time)[..., 1:]


class FeedForward(nn.Module):
    def __init__(self, channels: int, filters: int, kernel: int):
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, filters, kernel, padding=kernel // 2)
        self.conv_2 = nn.Conv1d(filters, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv_2(F.relu(self.conv_1(x * mask)) * mask) * mask


class Encoder(nn.Module):
    """Post-norm transformer."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        width = c.hidden_channels
        layers = range(c.attention_layers)
        self.attn_layers = nn.ModuleList(
            RelativeAttention(width, c.attention_heads, c.attention_window) for _ in layers
        )
        self.norm_layers_1 = nn.ModuleList(LayerNorm(width) for _ in layers)
        self.ffn_layers = nn.ModuleList(
            FeedForward(width, c.filter_channels, c.attention_kernel) for _ in layers
        )
        self.norm_layers_2 = nn.ModuleList(LayerNorm(width) for _ in layers)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x * mask
        blocks = zip(
            self.attn_layers,
            self.norm_layers_1,
            self.ffn_layers,
            self.norm_layers_2,
            strict=True,
        )
        for attention, norm_1, feed_forward, norm_2 in blocks:
            x = norm_1(x + attention(x, mask))
            x = norm_2(x + feed_forward(x, mask))
        return x * mask


class PriorEncoder(nn.Module):
    """Content [B, T, C] and coarse pitch [B, T] -> mean and log deviation of the prior, each [B,
    inter, T]."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.emb_phone = nn.Linear(c.content_channels, c.hidden_channels)
        self.emb_pitch = nn.Embedding(256, c.hidden_channels)
        self.encoder = Encoder(c)
        self.proj = nn.Conv1d(c.hidden_channels, 2 * c.inter_channels, 1)

    def forward(self, content: Tensor, pitch: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.emb_phone(content) + self.emb_pitch(pitch)
        x = F.leaky_relu(x * math.sqrt(x.shape[-1]), SLOPE).mT
        mean, logs = (self.proj(self.encoder(x, mask)) * mask).chunk(2, 1)
        return mean, logs


# --- posterior encoder and flow ---


class WaveNet(nn.Module):
    """Gated residual convolutions, undilated, conditioned on the speaker."""

    def __init__(self, width: int, kernel: int, layers: int, speaker_channels: int):
        super().__init__()
        self.width = width
        last = layers - 1
        self.in_layers = nn.ModuleList(
            normed_conv1d(width, 2 * width, kernel) for _ in range(layers)
        )
        self.res_skip_layers = nn.ModuleList(
            normed_conv1d(width, width if i == last else 2 * width, 1) for i in range(layers)
        )
        self.cond_layer = normed_conv1d(speaker_channels, 2 * width * layers, 1)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        conditions = self.cond_layer(speaker).split(2 * self.width, 1)
        output = torch.zeros_like(x)
        for conv, res_skip, condition in zip(
            self.in_layers, self.res_skip_layers, conditions, strict=True
        ):
            signal, gate = (conv(x) + condition).chunk(2, 1)
            y = res_skip(signal.tanh() * gate.sigmoid())
            if y.shape[1] > self.width:  # all but the last layer
                residual, y = y.chunk(2, 1)
                x = (x + residual) * mask
            output = output + y
        return output * mask


class PosteriorEncoder(nn.Module):
    """Spectrogram [B, bins, T] -> mean and log deviation of the posterior."""

    def __init__(self, c: GeneratorConfig, bins: int):
        super().__init__()
        self.pre = nn.Conv1d(bins, c.hidden_channels, 1)
        self.enc = WaveNet(
            c.hidden_channels, c.posterior_kernel, c.posterior_layers, c.speaker_channels
        )
        self.proj = nn.Conv1d(c.hidden_channels, 2 * c.inter_channels, 1)

    def forward(
        self, spectrogram: Tensor, mask: Tensor, speaker: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self.enc(self.pre(spectrogram) * mask, mask, speaker)
        mean, logs = (self.proj(x) * mask).chunk(2, 1)
        return mean, logs


class Coupling(nn.Module):
    """Volume-preserving coupling: the second half of the channels is shifted by a function of the
    first."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.pre = nn.Conv1d(c.inter_channels // 2, c.hidden_channels, 1)
        self.enc = WaveNet(c.hidden_channels, c.flow_kernel, c.flow_layers, c.speaker_channels)
        self.post = nn.Conv1d(c.hidden_channels, c.inter_channels // 2, 1)
        nn.init.zeros_(self.post.weight), nn.init.zeros_(self.post.bias)

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor, reverse: bool) -> Tensor:
        first, second = x.chunk(2, 1)
        shift = self.post(self.enc(self.pre(first) * mask, mask, speaker)) * mask
        second = (second - shift) * mask if reverse else shift + second * mask
        return torch.cat((first, second), 1)


class Flip(nn.Module):
    """Reverses the channels; its own inverse. A module, so that the couplings are numbered 0, 2, 4,
    ..."""

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor, reverse: bool) -> Tensor:
        return x.flip(1)


class Flow(nn.Module):
    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.flows = nn.ModuleList(
            layer for _ in range(c.flow_steps) for layer in (Coupling(c), Flip())
        )

    def forward(
        self, x: Tensor, mask: Tensor, speaker: Tensor, reverse: bool = False
    ) -> Tensor:
        for layer in reversed(self.flows) if reverse else self.flows:
            x = layer(x, mask, speaker, reverse)
        return x


# --- decoder ---


class HarmonicSource(nn.Module):
    """f0 [B, T] Hz -> excitation [B, 1, T * hop]: a sine where voiced, noise elsewhere.

    The phase is the running sum of f0, held over each frame: a ramp inside the frame on top of the
    wrapped sum of the whole frames before it, which stays exact in float32.
    """

    def __init__(self, audio: AudioConfig):
        super().__init__()
        self.rate = audio.sample_rate
        self.hop = audio.hop
        self.l_linear = nn.Linear(1, 1)

    def forward(self, f0: Tensor, noise_scale: float) -> Tensor:
        ramp = f0.unsqueeze(2) / self.rate * torch.arange(1, self.hop + 1, device=f0.device)
        step = torch.fmod(ramp[:, :-1, -1] + 0.5, 1.0) - 0.5
        start = F.pad(torch.fmod(step.cumsum(1), 1.0), (1, 0))
        voiced = (f0 > 0).to(f0.dtype).repeat_interleave(self.hop, 1)
        sine = 0.1 * torch.sin(2 * math.pi * (ramp + start.unsqueeze(2)).flatten(1)) * voiced
        noise = noise_scale * torch.randn_like(sine) * (0.003 * voiced + 0.1 / 3 * (1 - voiced))
        return torch.tanh(self.l_linear((sine + noise).unsqueeze(2))).mT


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            normed_conv1d(channels, channels, kernel, d, std=0.01) for d in dilations
        )
        self.convs2 = nn.ModuleList(
            normed_conv1d(channels, channels, kernel, std=0.01) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class Decoder(nn.Module):
    """NSF-HiFi-GAN: latents [B, inter, T] and f0 [B, T] -> waveform [B, 1, T * hop]."""

    def __init__(self, c: GeneratorConfig, audio: AudioConfig):
        super().__init__()
        self.blocks = len(c.resblock_kernels)
        self.m_source = HarmonicSource(audio)
        self.noise_convs = nn.ModuleList()
        self.conv_pre = nn.Conv1d(c.inter_channels, c.upsample_initial_channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        channels = c.upsample_initial_channels
        for i, (rate, kernel) in enumerate(
            zip(c.upsample_rates, c.upsample_kernels, strict=True)
        ):
            shape = (channels, channels // 2, kernel)
            channels //= 2
            padding = (kernel - rate) // 2
            self.ups.append(
                NormedConv(
                    F.conv_transpose1d, shape, channels, 0.01, stride=rate, padding=padding
                )
            )
            # Samples of the source per sample at this stage.
            rest = math.prod(c.upsample_rates[i + 1 :])
            size = 2 * rest if rest > 1 else 1
            self.noise_convs.append(
                nn.Conv1d(1, channels, size, stride=rest, padding=rest // 2 if rest > 1 else 0)
            )
            for kernel, dilations in zip(c.resblock_kernels, c.resblock_dilations, strict=True):
                self.resblocks.append(ResidualBlock(channels, kernel, dilations))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)
        self.cond = nn.Conv1d(c.speaker_channels, c.upsample_initial_channels, 1)

    def forward(self, z: Tensor, f0: Tensor, speaker: Tensor, noise_scale: float) -> Tensor:
        source = self.m_source(f0, noise_scale)
        x = self.conv_pre(z) + self.cond(speaker)
        for i, (up, noise_conv) in enumerate(zip(self.ups, self.noise_convs, strict=True)):
            x = up(F.leaky_relu(x, SLOPE)) + noise_conv(source)
            blocks = self.resblocks[i * self.blocks : (i + 1) * self.blocks]
            x = sum(block(x) for block in blocks) / self.blocks
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class Latents(NamedTuple):
    """What the losses need of one forward pass; all [B, inter, T] but the mask [B, 1, T]."""

    mean_prior: Tensor
    logs_prior: Tensor
    mean_posterior: Tensor
    logs_posterior: Tensor
    z: Tensor
    z_prior: Tensor
    mask: Tensor


class Synthesizer(nn.Module):
    """RVC's generator: a conditional VAE with a flow between posterior and prior."""

    def __init__(self, c: GeneratorConfig, audio: AudioConfig):
        super().__init__()
        self.segment = audio.segment_frames
        self.dec = Decoder(c, audio)
        self.enc_q = PosteriorEncoder(c, audio.spectrogram_bins)
        self.flow = Flow(c)
        self.emb_g = nn.Embedding(c.speakers, c.speaker_channels)
        self.enc_p = PriorEncoder(c)

    def forward(
        self,
        content: Tensor,
        pitch: Tensor,
        f0: Tensor,
        spectrogram: Tensor,
        lengths: Tensor,
        speaker: Tensor,
        start: Tensor,
        noise_scale: float = 1.0,
    ) -> tuple[Tensor, Latents]:
        """Training pass: the waveform [B, 1, segment * hop] of the frames from `start` [B], and the
        latents.

        content [B, T, C] at the frame rate, pitch [B, T] coarse, f0 [B, T] Hz, spectrogram [B,
        bins, T], lengths [B] frames, speaker [B]. `noise_scale` 0 makes it deterministic.
        """
        g = self.emb_g(speaker).unsqueeze(2)
        mask = (
            (torch.arange(f0.shape[1], device=f0.device) < lengths.unsqueeze(1))
            .unsqueeze(1)
            .to(f0.dtype)
        )
        mean_p, logs_p = self.enc_p(content, pitch, mask)
        mean_q, logs_q = self.enc_q(spectrogram, mask, g)
        z = (mean_q + noise_scale * torch.randn_like(mean_q) * logs_q.exp()) * mask
        z_p = self.flow(z, mask, g)
        wave = self.dec(
            segments(z, start, self.segment), segments(f0, start, self.segment), g, noise_scale
        )
        return wave, Latents(mean_p, logs_p, mean_q, logs_q, z, z_p, mask)

    def infer(
        self,
        content: Tensor,
        pitch: Tensor,
        f0: Tensor,
        lengths: Tensor,
        speaker: Tensor,
        noise_scale: float,
    ) -> Tensor:
        """Conversion: the waveform [B, 1, T * hop] of latents drawn from the prior."""
        g = self.emb_g(speaker).unsqueeze(2)
        mask = (
            (torch.arange(f0.shape[1], device=f0.device) < lengths.unsqueeze(1))
            .unsqueeze(1)
            .to(f0.dtype)
        )
        mean, logs = self.enc_p(content, pitch, mask)
        z_p = (mean + noise_scale * torch.randn_like(mean) * logs.exp()) * mask
        return self.dec(self.flow(z_p, mask, g, reverse=True) * mask, f0, g, noise_scale)


def segments(x: Tensor, start: Tensor, size: int) -> Tensor:
    """[B, ..., T] -> [B, ..., size]: of each item, `size` steps from its `start` [B]."""
    index = start.unsqueeze(1) + torch.arange(size, device=x.device)
    return x.gather(
        -1, index.view(len(x), *[1] * (x.ndim - 2), size).expand(*x.shape[:-1], size)
    )


# --- discriminator ---


class SubDiscriminator(nn.Module):
    """Convolutions that score a waveform; `period` folds it to [B, 1, T / period, period] first,
    None leaves it."""

    def __init__(self, c: DiscriminatorConfig, period: int | None):
        super().__init__()
        self.period = period
        if period is None:
            kernels = c.scale_kernels
            strides = c.scale_strides
            groups = c.scale_groups
            widths = zip(
                (1, *c.scale_channels[:-1]),
                c.scale_channels,
                kernels,
                strides,
                groups,
                strict=True,
            )
            self.convs = nn.ModuleList(
                normed_conv1d(i, o, k, stride=s, groups=g) for i, o, k, s, g in widths
            )
            self.conv_post = normed_conv1d(c.scale_channels[-1], 1, 3)
        else:
            strides = [c.period_stride] * (len(c.period_channels) - 1) + [1]
            widths = zip((1, *c.period_channels[:-1]), c.period_channels, strides, strict=True)
            self.convs = nn.ModuleList(
                _folded_conv(i, o, c.period_kernel, s) for i, o, s in widths
            )
            self.conv_post = _folded_conv(c.period_channels[-1], 1, 3, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The feature maps of waveforms [B, 1, T]; the last one is the score."""
        if self.period is not None:
            x = F.pad(x, (0, -x.shape[2] % self.period), mode="reflect")
            x = x.unflatten(2, (-1, self.period))
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            maps.append(x)
        return [*maps, self.conv_post(x)]


def _folded_conv(inputs: int, outputs: int, kernel: int, stride: int) -> NormedConv:
    shape = (outputs, inputs, kernel, 1)
    padding = (kernel // 2, 0)
    return NormedConv(F.conv2d, shape, outputs, stride=(stride, 1), padding=padding)


class Discriminator(nn.Module):
    """One scale discriminator and one per period."""

    def __init__(self, c: DiscriminatorConfig):
        super().__init__()
        self.discriminators = nn.ModuleList(
            SubDiscriminator(c, period) for period in (None, *c.periods)
        )

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Feature maps [sub-discriminator][layer]; the last of each is its score."""
        return [discriminator(x) for discriminator in self.discriminators]
