"""A voice as conversion needs it, wherever it comes from."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from rvc_jax.config import AudioConfig, PrepareConfig
from rvc_jax.models.parameters import Network
from rvc_jax.models.precision import compute_dtype
from rvc_jax.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class Voice:
    """The voice model with its parameters, and how its training speech was treated."""

    network: Network
    parameters: dict[str, Any]
    audio: AudioConfig
    latent_channels: int
    content_encoder: str
    content_fingerprint: str | None = None
    """Of the encoder that the voice was trained with; None if unknown."""
    version: Literal["v1", "v2"] = "v2"
    prepare: PrepareConfig = PrepareConfig()
    """Of the training speech; the recording is filtered and levelled like it."""
    speakers: tuple[str, ...] = ("",)
    """Their names, by number."""
    median_f0: tuple[float, ...] = (0.0,)
    """Of every speaker's training speech in Hz; 0 if unknown."""
    index: np.ndarray | None = None
    """Content features of the training speech [rows, channels], for retrieval."""
    dtype: Any = jnp.float32
    """Arithmetic of the network."""

    @classmethod
    def from_run(cls, run: RunFolder, which: str = "best") -> Voice:
        """The `best` or `latest` voice of a run. Raises UserError as `RunFolder.load_generator` does."""
        network, parameters = run.load_generator(which)
        return cls(
            network,
            parameters,
            run.preset.audio,
            run.preset.generator.inter_channels,
            run.dataset.content_encoder,
            run.dataset.content_fingerprint,
            run.preset.version,
            PrepareConfig(**run.dataset.config),
            run.dataset.speakers,
            run.dataset.speaker_median_f0,
            run.index(),
            compute_dtype(run.preset.train.precision),
        )
