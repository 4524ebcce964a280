"""A base voice with parameters that nobody trained, in the place of the package's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.config import PRESETS, Preset
from rvc_jax.train.networks import build_networks
from rvc_jax.weights import bundled, safetensors_file


def use_base(patch: pytest.MonkeyPatch, preset: Preset, folder: Path) -> dict[str, Path]:
    """Put a preset, and a base voice of one speaker for it, in the place of the package's.

    Returns: the files by network.
    """
    one = dataclasses.replace(
        preset, generator=dataclasses.replace(preset.generator, speakers=1)
    )
    networks = build_networks(one, steps_per_epoch=1)
    files = {}
    for kind, network in zip(
        bundled.NETWORKS, (networks.synthesizer, networks.discriminator), strict=True
    ):
        arrays = network.to_public(network.init(seed=3))
        files[kind] = folder / f"base_{preset.name}_{kind}.safetensors"
        halves = {name: np.asarray(array, np.float16) for name, array in arrays.items()}
        safetensors_file.write(files[kind], halves)

    def find_base(name: str, network: str) -> Path | None:
        return files[network] if name == preset.name else None

    patch.setitem(PRESETS, preset.name, preset)
    patch.setattr(bundled, "find_base", find_base)
    return files
