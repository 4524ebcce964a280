"""Presets that compile and train in a moment; as a program, `rvc-jax` with them for nano and small.

python tests/micro.py train DATASET --run RUN
"""

from __future__ import annotations

import dataclasses
import sys

from rvc_jax.config import PRESETS, DiscriminatorConfig

NANO = PRESETS["nano"]
MICRO = dataclasses.replace(
    NANO,
    audio=dataclasses.replace(NANO.audio, segment_frames=8),
    generator=dataclasses.replace(
        NANO.generator,
        inter_channels=16,
        hidden_channels=16,
        filter_channels=16,
        attention_layers=1,
        posterior_layers=2,
        flow_layers=1,
        speaker_channels=4,
        upsample_initial_channels=16,
        resblock_kernels=(3, 5),
        resblock_dilations=((1,), (3,)),
    ),
    discriminator=DiscriminatorConfig(
        periods=(2, 3),
        scale_channels=(4, 8, 8),
        scale_kernels=(15, 11, 5),
        scale_strides=(1, 4, 1),
        scale_groups=(1, 4, 1),
        period_channels=(4, 8),
    ),
    train=dataclasses.replace(NANO.train, precision="float32"),
)
"""Every part of nano with the fewest layers and channels possible. It reads nano's datasets."""

SMALL = PRESETS["small"]
MICRO_SMALL = dataclasses.replace(
    SMALL,
    audio=dataclasses.replace(
        SMALL.audio, segment_frames=16, mel_scales=((256, 20), (128, 12))
    ),
    generator=dataclasses.replace(
        SMALL.generator,
        channels=16,
        content_dilations=(2,),
        frame_blocks=1,
        step_channels=12,
        step_blocks=1,
        kernel=3,
        speaker_channels=4,
    ),
    discriminator=dataclasses.replace(
        SMALL.discriminator,
        periods=(2,),
        period_channels=(4, 8),
        spectra=(256,),
        spectrum_channels=(8, 8),
    ),
    train=dataclasses.replace(SMALL.train, precision="float32", pretrained="none"),
)
"""The same of small. It starts from scratch: the base voice has other sizes."""

if __name__ == "__main__":
    from rvc_jax.cli.main import main

    PRESETS["nano"] = MICRO
    PRESETS["small"] = MICRO_SMALL
    sys.exit(main())
