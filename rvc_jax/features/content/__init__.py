"""Content encoders by name."""

from __future__ import annotations

import functools
from typing import Protocol, get_args

import numpy as np

from rvc_jax.config import ContentEncoderName
from rvc_jax.errors import UserError


class ContentEncoder(Protocol):
    """Content features of 16 kHz audio: what is said, 50 frames a second."""

    name: str
    channels: int
    fingerprint: str
    """Hash of the weights and parameters: equal fingerprints give equal features."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """audio float32 [batch, samples], samples a multiple of 320 -> float32 [batch, samples // 320, channels].

        Every new shape is compiled once.
        """
        ...


NAMES: tuple[str, ...] = get_args(ContentEncoderName)


@functools.lru_cache
def content_encoder(name: str) -> ContentEncoder:
    """The encoder of that name, made once per process. Raises UserError for an unknown name."""
    if name == "whisper-tiny":
        from rvc_jax.features.content.whisper import WhisperContent

        return WhisperContent()
    raise UserError(f"unknown content encoder {name!r}; known are: {', '.join(NAMES)}")
