"""A voice that stays loaded and compiled while recordings come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvc_jax.audio.reading import AudioError, decode_blocks
from rvc_jax.config import FEATURE_RATE, FRAMES_PER_SECOND, ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CHUNK_FRAMES
from rvc_jax.infer.converter import Conversion, Converter, Listener
from rvc_jax.infer.voice import Voice

_VALUES_PER_SECOND = 2 * 192_000
"""Samples of all channels together in a second of sound, at most: stereo at the highest rate that
people record at."""


class RecordingTooLong(UserError):
    """A recording that is longer than what is taken."""


class WarmVoice:
    """Converts recordings one after the other, each with its own settings. Not for several threads
    at once."""

    def __init__(self, voice: Voice):
        self.voice = voice
        self._converter = Converter(voice, ConvertConfig())

    def __call__(
        self,
        wave: np.ndarray,
        rate: int,
        config: ConvertConfig,
        progress: Listener = lambda share: None,
    ) -> Conversion:
        """As `Converter.__call__`. Raises UserError if a setting or the recording can't be used."""
        return self._converter.with_config(config)(wave, rate, progress)

    def warm_up(self) -> None:
        """Compiles every shape that a recording can need, with the default settings."""
        for seconds in (0.5, max(CHUNK_FRAMES) / FRAMES_PER_SECOND):
            time = np.arange(round(seconds * FEATURE_RATE)) / FEATURE_RATE
            self(
                np.sin(2 * np.pi * 200 * time).astype(np.float32) * 0.1,
                FEATURE_RATE,
                ConvertConfig(),
            )


def read_recording(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """As `audio.io.decode`, in memory that the length alone bounds.

    Raises:
      TooLong: if it is longer; nothing beyond is decoded.
      AudioError: as `decode`, and for more channels or a higher rate than are taken.
    """
    rate, blocks = decode_blocks(path)
    kept = []
    samples = 0
    for block in blocks:
        if len(block) * rate > _VALUES_PER_SECOND:
            raise AudioError(f"{len(block)} channels at {rate} Hz are more than what is taken")
        samples += block.shape[1]
        if samples > max_seconds * rate:
            raise RecordingTooLong(
                f"the recording is too long: at most {max_seconds:g} s are taken"
            )
        kept.append(block)
    return np.concatenate(kept, axis=1), rate
