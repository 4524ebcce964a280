"""Other vocoders are recognized by the names and shapes of their arrays."""

from __future__ import annotations

import numpy as np
import pytest
from public_files import new_names, small_voice

from rvc_jax.models.vocoders import find_other_vocoder


@pytest.mark.parametrize(
    ("name", "vocoder"),
    [
        ("dec.mel_conv.weight_v", "the vocoder RefineGAN"),
        ("dec.upsample_conv_blocks.0.blocks.1.0.convs1.0.bias", "the vocoder RefineGAN"),
        ("dec.mrfs.0.0.layers.0.conv1.weight_g", "the vocoder MRF HiFi-GAN"),
        ("dec.amps.0.layers.0.conv1.weight_v", "the vocoder BigVGAN"),
        ("dec.resblocks.0.activations.0.act.alpha", "the vocoder BigVGAN"),
        ("dec.conformers.0.ff1.fn.fn.net.0.weight", "the vocoder RingFormer"),
        ("dec.source_resblocks.0.activations1.0.alpha", "the vocoder HiFTNet"),
        ("dec.backbone.convnext.0.dwconv.weight", "the vocoder Vocos"),
        ("dec.resblocks.3.snakes.1.alpha", "the vocoder SnakeGAN"),
        ("dec.wavelets.0.weight", "a vocoder that is not known here (it has dec.wavelets)"),
    ],
)
def test_names(name: str, vocoder: str) -> None:
    weights = small_voice().weights | {name: np.zeros(1, np.float32)}
    assert find_other_vocoder(weights) == vocoder


def test_shapes() -> None:
    weights = small_voice(posterior=True).weights
    assert find_other_vocoder(weights) is None
    assert find_other_vocoder(new_names(weights)) is None
    assert find_other_vocoder({"enc_p.emb_phone.weight": np.zeros(1)}) is None
    nine = weights | {"dec.m_source.l_linear.weight": np.zeros((1, 9), np.float32)}
    assert find_other_vocoder(nine) == "a HiFi-GAN of 9 harmonics"
    bins = weights | {"dec.conv_post.weight": np.zeros((18, 2, 7), np.float32)}
    assert find_other_vocoder(bins) == "the vocoder iSTFTNet"
