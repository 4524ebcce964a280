"""The content encoders as their originals compute them, in plain PyTorch: reference of the tests,
and of the speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rvc_jax.features.content.whisper import sinusoids

HUBERT_STRIDES = (5, 2, 2, 2, 2, 2, 2)
State = Mapping[str, Tensor]


def tensors(state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()
    }


def _norm(s: State, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])


def _linear(s: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))


def _attention(s: State, names: list[str], x: Tensor, heads: int) -> Tensor:
    """By the layers of query, key, value and output."""
    q, k, v = (
        _linear(s, name, x).unflatten(-1, (heads, -1)).transpose(1, 2) for name in names[:3]
    )
    return _linear(
        s, names[3], functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    )


def hubert(s: State, audio: Tensor) -> list[Tensor]:
    """transformers' HubertModel, its names: audio [batch, samples] -> all hidden states [batch,
    frames, channels].

    Of a model whose convolutions are normalized ("large"), the last is after the final
    normalization.
    """
    large = "feature_extractor.conv_layers.1.layer_norm.weight" in s
    x = audio[:, None]
    for i, stride in enumerate(HUBERT_STRIDES):
        name = f"feature_extractor.conv_layers.{i}"
        x = functional.conv1d(x, s[f"{name}.conv.weight"], s.get(f"{name}.conv.bias"), stride)
        if large:
            x = _norm(s, f"{name}.layer_norm", x.transpose(1, 2)).transpose(1, 2)
        elif i == 0:
            x = functional.group_norm(
                x, x.shape[1], s[f"{name}.layer_norm.weight"], s[f"{name}.layer_norm.bias"]
            )
        x = functional.gelu(x)
    x = _linear(
        s,
        "feature_projection.projection",
        _norm(s, "feature_projection.layer_norm", x.transpose(1, 2)),
    )
    position = "encoder.pos_conv_embed.conv"
    size, direction = (s[f"{position}.parametrizations.weight.original{i}"] for i in (0, 1))
    kernel = direction * (size / direction.norm(dim=(0, 1), keepdim=True))
    groups = kernel.shape[0] // kernel.shape[1]
    y = functional.conv1d(
        x.transpose(1, 2),
        kernel,
        s[f"{position}.bias"],
        padding=kernel.shape[2] // 2,
        groups=groups,
    )
    x = x + functional.gelu(y[:, :, : x.shape[1]]).transpose(1, 2)
    x = x if large else _norm(s, "encoder.layer_norm", x)
    states = [x]
    for i in range(sum(name.endswith("intermediate_dense.weight") for name in s)):
        states.append(_hubert_layer(s, f"encoder.layers.{i}", states[-1], large))
    if large:
        states[-1] = _norm(s, "encoder.layer_norm", states[-1])
    return states


def _hubert_layer(s: State, name: str, x: Tensor, norm_first: bool) -> Tensor:
    def attend(y: Tensor) -> Tensor:
        names = [f"{name}.attention.{part}_proj" for part in ("q", "k", "v", "out")]
        return _attention(s, names, y, heads=y.shape[-1] // 64)

    def dense(y: Tensor) -> Tensor:
        hidden = functional.gelu(_linear(s, f"{name}.feed_forward.intermediate_dense", y))
        return _linear(s, f"{name}.feed_forward.output_dense", hidden)

    for norm, function in (("layer_norm", attend), ("final_layer_norm", dense)):
        x = (
            x + function(_norm(s, f"{name}.{norm}", x))
            if norm_first
            else _norm(s, f"{name}.{norm}", x + function(x))
        )
    return x


def log_mel(audio: Tensor, filters: Tensor) -> Tensor:
    """The input of openai/whisper: audio [batch, samples], filters [mels, bins] -> [batch, mels,
    samples // 160]."""
    power = (
        torch.stft(audio, 400, 160, window=torch.hann_window(400), return_complex=True)[
            ..., :-1
        ].abs()
        ** 2
    )
    log = torch.clamp(filters @ power, min=1e-10).log10()
    return (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def whisper(s: State, mel: Tensor) -> Tensor:
    """openai/whisper's encoder, its names: log-mel [batch, mels, frames] -> [batch, frames / 2,
    channels]."""
    s = {name.removeprefix("encoder."): tensor for name, tensor in s.items()}
    x = functional.gelu(functional.conv1d(mel, s["conv1.weight"], s["conv1.bias"], padding=1))
    x = functional.gelu(
        functional.conv1d(x, s["conv2.weight"], s["conv2.bias"], stride=2, padding=1)
    ).transpose(1, 2)
    x = x + s["positional_embedding"][: x.shape[1]]
    for i in range(
        sum(name.endswith("mlp.0.weight") and name.startswith("blocks") for name in s)
    ):
        block = f"blocks.{i}"
        names = [f"{block}.attn.{part}" for part in ("query", "key", "value", "out")]
        x = x + _attention(s, names, _norm(s, f"{block}.attn_ln", x), heads=x.shape[-1] // 64)
        hidden = functional.gelu(_linear(s, f"{block}.mlp.0", _norm(s, f"{block}.mlp_ln", x)))
        x = x + _linear(s, f"{block}.mlp.2", hidden)
    return _norm(s, "ln_post", x)


def random_whisper(width: int, layers: int, mels: int = 80) -> dict[str, np.ndarray]:
    """A checkpoint of Whisper's encoder of any size, as openai/whisper names it, with weights drawn
    at random."""
    shapes = {"conv1": (width, mels, 3), "conv2": (width, width, 3), "ln_post": (width,)}
    for i in range(layers):
        block = f"blocks.{i}"
        shapes |= {
            f"{block}.attn.{part}": (width, width) for part in ("query", "key", "value", "out")
        }
        shapes |= {f"{block}.mlp.0": (4 * width, width), f"{block}.mlp.2": (width, 4 * width)}
        shapes |= {f"{block}.{name}": (width,) for name in ("attn_ln", "mlp_ln")}
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    state = {f"encoder.{name}.weight": draw(*shape) for name, shape in shapes.items()}
    state |= {
        f"encoder.{name}.bias": draw(shape[0])
        for name, shape in shapes.items()
        if not name.endswith("key")
    }
    return state | {"encoder.positional_embedding": sinusoids(1500, width)}
