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

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """audio float32 [batch, samples], samples a multiple of 320 -> float32 [batch, samples //
        160] Hz, 0 unvoiced.

        Frame i is the pitch at sample 160 * i. Every new shape is compiled once. Row i of the audio
        has `lengths[i]` samples (all, if not given) and zeros behind them: its frames up to there
        are those of the row alone.
        """
        ...


PITCH_METHODS: tuple[str, ...] = get_args(PitchMethod)


@functools.lru_cache
def pitch_extractor(name: str) -> PitchExtractor:
    """The extractor of that name, made once per process; its weights are downloaded if need be.

    Raises UserError for an unknown name, weights that cannot be had, or a package that is missing.
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
