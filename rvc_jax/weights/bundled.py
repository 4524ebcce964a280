"""Weights that come with the package, in `bundled/` beside their licenses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "bundled"

SCALE = ".scale_of_uint8"
ZERO_POINT = ".zero_of_uint8"
"""Suffixes of the two numbers beside an array that is stored in 8 bits."""

NETWORKS = ("generator", "discriminator")
"""The two networks of a base voice."""


def find_base(preset: str, network: str) -> Path | None:
    """Return the file of a network of the base voice that comes with the package.

    None for a preset without a base voice.

    preset: its name; network: one of NETWORKS.
    """
    path = FOLDER / name_base(preset, network)
    return path if path.is_file() else None


def name_base(preset: str, network: str) -> str:
    """Return the name of the file that has a network of a preset's base voice."""
    return f"base_{preset}_{network}.safetensors"


def load(name: str) -> dict[str, np.ndarray]:
    """Load the arrays of one network by name, as float32.

    Arrays that are stored in 8 bits are (value - zero point) * scale.
    """
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        stored = dict(file)
    arrays = {}
    for key, array in stored.items():
        if key + SCALE in stored:
            array = (array.astype(np.float32) - stored[key + ZERO_POINT]) * stored[key + SCALE]
        if not key.endswith((SCALE, ZERO_POINT)):
            arrays[key] = array.astype(np.float32)
    return arrays


def sha256(name: str) -> str:
    """Return the hash of a network's file."""
    return hashlib.sha256((FOLDER / f"{name}.npz").read_bytes()).hexdigest()
