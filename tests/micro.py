"""A preset that compiles and trains in a moment; as a program, `rvc-jax` with it for nano.

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

if __name__ == "__main__":
    from rvc_jax.cli.main import main

    PRESETS["nano"] = MICRO
    sys.exit(main())
