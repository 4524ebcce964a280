"""Pitch extractors by name."""

from __future__ import annotations

import functools
from typing import Protocol, get_args

import numpy as np

from rvc_jax.config import PitchMethod
from rvc_jax.errors import UserError


class PitchExtractor(Protocol):
    """Pitch of 16 kHz audio, 100 frames a second."""

    name: str
    fingerprint: str
    """Hash of the weights and parameters: equal fingerprints give equal pitch."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """audio float32 [batch, samples], samples a multiple of 320 -> float32 [batch, samples // 160] Hz, 0 unvoiced.

        Frame i is centred on sample 160 * i. Every new shape is compiled once.
        """
        ...


NAMES: tuple[str, ...] = get_args(PitchMethod)


@functools.lru_cache
def pitch_extractor(name: str) -> PitchExtractor:
    """The extractor of that name, made once per process. Raises UserError for an unknown name."""
    if name == "swift":
        from rvc_jax.features.f0.swift import SwiftPitch

        return SwiftPitch()
    raise UserError(f"unknown pitch method {name!r}; known are: {', '.join(NAMES)}")
