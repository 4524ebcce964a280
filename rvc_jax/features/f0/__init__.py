"""Pitch extractors by name."""

from __future__ import annotations

import functools
import importlib.util
from typing import Protocol, get_args

import numpy as np

from rvc_jax.config import PitchMethod
from rvc_jax.errors import UserError


class PitchExtractor(Protocol):
    """Finds the pitch of 16 kHz audio, 100 frames a second."""

    name: str
    fingerprint: str
    """Hash of the weights and parameters: equal fingerprints mean equal pitch."""

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; frame i is that at sample 160 * i. Every new shape is compiled once.

        Args:
          audio: float32 [batch, samples], samples a multiple of 320; zeros behind the end of a row.
          lengths: int [batch], samples of each row; whole rows if not given. A row's frames do not
            depend on the other rows, nor on the padding.

        Returns: float32 [batch, samples // 160] in Hz, 0 where unvoiced.
        """
        ...


PITCH_METHODS: tuple[str, ...] = get_args(PitchMethod)

_PACKAGES = {"harvest": "pyworld", "dio": "pyworld", "pm": "parselmouth"}


def find_present_methods() -> tuple[str, ...]:
    """Return the methods whose weights or packages are on this machine; nothing is downloaded."""
    from rvc_jax.weights import store

    def is_present(name: str) -> bool:
        if name in _PACKAGES:
            return importlib.util.find_spec(_PACKAGES[name]) is not None
        return name == "swift" or store.find(name) is not None

    return tuple(name for name in PITCH_METHODS if is_present(name))


@functools.lru_cache
def load_pitch_extractor(name: str) -> PitchExtractor:
    """Load the extractor of that name, once per process; its weights are downloaded if needed.

    Raises:
      UserError: unknown name, weights that cannot be downloaded, or a missing package.
    """
    if name == "swift":
        from rvc_jax.features.f0.swift import SwiftPitch

        return SwiftPitch()
    if name == "rmvpe":
        from rvc_jax.features.f0.rmvpe import RmvpePitch

        return RmvpePitch.load()
    if name == "fcpe":
        from rvc_jax.features.f0.fcpe import FcpePitch

        return FcpePitch.load()
    if name in ("crepe", "crepe-tiny"):
        from rvc_jax.features.f0.crepe import CrepePitch

        return CrepePitch.load(name)
    if name in ("harvest", "dio", "pm"):
        from rvc_jax.features.f0.classical import ClassicalPitch

        return ClassicalPitch(name)
    raise UserError(f"unknown pitch method {name!r}; known are: {', '.join(PITCH_METHODS)}")
