"""Recognizes a voice's vocoder (`dec`) by the names and shapes of its arrays.

The one that is computed here is the NSF-HiFi-GAN of `models.generator`. Some tools put another one
in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HIFI_GAN = re.compile(
    r"dec\.(conv_pre|conv_post|cond|ups\.\d+|noise_convs\.\d+|m_source\.l_linear|"
    r"resblocks\.\d+\.convs[12]\.\d+)\."
    r"(weight(_[gv])?|bias|parametrizations\.weight\.original[01])"
)
_OTHERS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"dec\.(conformers?|conformer_blocks)\.", "RingFormer"),
        (
            r"dec\.(upsample_conv_blocks|upsample_blocks|downsample_blocks|mel_conv|pre_conv)\.",
            "RefineGAN",
        ),
        (r"dec\.amps\.|dec\.resblocks\.\d+\.activations\.\d+\.act\.", "BigVGAN"),
        (r"dec\.mrfs\.", "MRF HiFi-GAN"),
        (r"dec\.(source_downs|source_resblocks|noise_res|f0_predictor)\.", "HiFTNet"),
        (r"dec\.(backbone\.|head\.|convnext\.|.*\.(dwconv|pwconv\d)\.)", "Vocos"),
        (r"dec\..*(snake|alpha|acts?\d?\.\d+|activations?\d?\.)", "SnakeGAN"),
    )
)
_SOURCE = "dec.m_source.l_linear.weight"
_LAST = ("dec.conv_post.weight", "dec.conv_post.weight_v")
_MAX_SHOWN = 40


def find_other_vocoder(arrays: Mapping[str, Any]) -> str | None:
    """Return what completes "a voice with ..." for another vocoder; None for HiFi-GAN, or none.

    Args:
      arrays: By name; those without the prefix `dec.` do not count.
    """
    decoder = [str(name) for name in arrays if str(name).startswith("dec.")]
    strange = [name for name in decoder if not _HIFI_GAN.fullmatch(name)]
    for pattern, vocoder in _OTHERS:
        if any(pattern.match(name) for name in strange):
            return f"the vocoder {vocoder}"
    if strange:
        prefix = "".join(c if c.isprintable() else "?" for c in strange[0])
        prefix = ".".join(prefix.split(".")[:2])[:_MAX_SHOWN]
        return f"a vocoder that is not known here (it has {prefix})"
    return _find_other_shape(arrays)


def _find_other_shape(arrays: Mapping[str, Any]) -> str | None:
    """Name a variant of HiFi-GAN with the same names."""
    source = getattr(arrays.get(_SOURCE), "shape", ())
    if len(source) == 2 and source[1] > 1:
        return f"a HiFi-GAN of {source[1]} harmonics"
    for name in _LAST:
        last = getattr(arrays.get(name), "shape", ())
        if len(last) == 3 and last[0] > 1:
            return "the vocoder iSTFTNet"
    return None
