"""The sizes of a voice's networks, as the shapes of its weights tell them.

Shapes tell everything but the dilations of the residual blocks, and the upsampling rates: those of
a voice with pitch follow from the layers that bring its source to each stage's rate, all but the
first. The preset that has the rest of them tells these, and the sample rate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rvc_jax.config import PRESETS, Preset
from rvc_jax.voices.model import CONTENT_CHANNELS, Version

_MOST_LAYERS = 64


def infer_version(weights: Mapping[str, np.ndarray], told: str | None = None) -> Version:
    """v1 or v2: as the width of the content features says, or as `told` where that says neither."""
    width = shape(weights, "enc_p.emb_phone.weight", 2)[1]
    by_width = {channels: version for version, channels in CONTENT_CHANNELS.items()}
    return by_width.get(width, "v1" if told == "v1" else "v2")


def has_pitch(weights: Mapping[str, np.ndarray]) -> bool:
    return "enc_p.emb_pitch.weight" in weights


def measured(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of `GeneratorConfig` but upsampling rates and dilations.

    Raises:
      ValueError: if a weight that tells a size is not there, or has no such shape; the message
          tells which.
    """
    attention = "enc_p.encoder.attn_layers.0"
    hidden, content = shape(weights, "enc_p.emb_phone.weight", 2)
    _, relative, head = shape(weights, f"{attention}.emb_rel_k", 3)
    filters, _, kernel = shape(weights, "enc_p.encoder.ffn_layers.0.conv_1.weight", 3)
    speakers, speaker_channels = shape(weights, "emb_g.weight", 2)
    initial, inter, _ = shape(weights, "dec.conv_pre.weight", 3)
    stages = count(weights, r"dec\.ups\.(\d+)\.weight_v")
    blocks = count(weights, r"dec\.resblocks\.(\d+)\.convs1\.0\.weight_v")
    if not stages or not blocks or blocks % stages:
        raise ValueError(f"its decoder has {stages} stages and {blocks} residual blocks")
    sizes = {
        "content_channels": content,
        "inter_channels": inter,
        "hidden_channels": hidden,
        "filter_channels": filters,
        "attention_heads": hidden // max(head, 1),
        "attention_layers": count(weights, r"enc_p\.encoder\.attn_layers\.(\d+)\.emb_rel_k"),
        "attention_kernel": kernel,
        "attention_window": relative // 2,
        "flow_steps": -(-count(weights, r"flow\.flows\.(\d+)\.pre\.weight", 2) // 2),
        "flow_layers": count(weights, r"flow\.flows\.0\.enc\.in_layers\.(\d+)\.weight_v"),
        "flow_kernel": shape(weights, "flow.flows.0.enc.in_layers.0.weight_v", 3)[2],
        "speaker_channels": speaker_channels,
        "speakers": speakers,
        "upsample_kernels": tuple(
            shape(weights, f"dec.ups.{stage}.weight_v", 3)[2] for stage in range(stages)
        ),
        "upsample_initial_channels": initial,
        "resblock_kernels": tuple(
            shape(weights, f"dec.resblocks.{block}.convs1.0.weight_v", 3)[2]
            for block in range(blocks // stages)
        ),
        "has_pitch": has_pitch(weights),
    }
    if "enc_q.pre.weight" in weights:
        sizes["posterior_layers"] = count(weights, r"enc_q\.enc\.in_layers\.(\d+)\.weight_v")
        sizes["posterior_kernel"] = shape(weights, "enc_q.enc.in_layers.0.weight_v", 3)[2]
    return sizes


def matching(weights: Mapping[str, np.ndarray], version: Version) -> list[Preset]:
    """The presets whose upsampling the weights have: of that version, or of any if none of that
    version has it.

    Raises ValueError as `measured` does.
    """
    alike = [preset for preset in PRESETS.values() if matches_upsampling(weights, preset)]
    return [preset for preset in alike if preset.version == version] or alike


def matches_upsampling(weights: Mapping[str, np.ndarray], preset: Preset) -> bool:
    """Whether nothing in the decoder's and the posterior encoder's shapes speaks against a
    preset."""
    sizes = preset.generator
    if measured(weights)["upsample_kernels"] != sizes.upsample_kernels:
        return False
    if (
        "enc_q.pre.weight" in weights
        and shape(weights, "enc_q.pre.weight", 3)[1] != preset.audio.spectrogram_bins
    ):
        return False
    strides = infer_source_strides(weights)
    rests = [
        int(np.prod(sizes.upsample_rates[stage + 1 :]))
        for stage in range(len(sizes.upsample_rates))
    ]
    return not strides or strides == rests


def infer_source_strides(weights: Mapping[str, np.ndarray]) -> list[int]:
    """What is left to upsample after every stage; nothing for a voice without pitch."""
    stages = count(weights, r"dec\.noise_convs\.(\d+)\.weight")
    kernels = [
        shape(weights, f"dec.noise_convs.{stage}.weight", 3)[2] for stage in range(stages)
    ]
    return [max(kernel // 2, 1) for kernel in kernels]


def shape(weights: Mapping[str, np.ndarray], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a weight. Raises ValueError if it is not there or has another number of
    dimensions."""
    if name not in weights:
        raise ValueError(f"it has no {name}")
    if weights[name].ndim != dimensions:
        raise ValueError(f"its {name} has {weights[name].ndim} dimensions, not {dimensions}")
    return weights[name].shape


def count(weights: Mapping[str, np.ndarray], pattern: str, step: int = 1) -> int:
    """One more than the largest number of such weights, which are numbered without a gap, or by
    `step`.

    Raises ValueError for more of them than any voice has.
    """
    numbers = {
        int(found[1])
        for name in weights
        if (found := re.fullmatch(pattern.replace(r"\d+", r"\d{1,4}"), name))
    }
    if numbers != set(range(0, len(numbers) * step, step)):
        raise ValueError(
            f"its layers are not numbered as a voice's are ({pattern})".replace("\\", "")
        )
    if len(numbers) > _MOST_LAYERS:
        raise ValueError("it has more layers than any voice")
    return max(numbers, default=-1) + 1
