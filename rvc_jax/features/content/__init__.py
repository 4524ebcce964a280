"""Content encoders by name."""

from __future__ import annotations

import functools
from typing import Literal, Protocol

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.weights import store
from rvc_jax.weights.registry import ENTRIES


class ContentEncoder(Protocol):
    """Computes content features of 16 kHz audio, 50 frames a second: the words, not the voice."""

    name: str
    channels: int
    fingerprint: str
    """Hash of the weights and parameters: equal fingerprints mean equal features."""

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Compute content features. Every new shape is compiled once.

        Args:
          audio: float32 [batch, samples], samples a multiple of 320; zeros behind the end of a row.
          lengths: int [batch], samples of each row; whole rows if not given. A row's frames do not
            depend on the other rows, nor on the padding.

        Returns: float32 [batch, samples // 320, channels].
        """
        ...


def load_content_encoder(
    name: str, version: Literal["v1", "v2"] = "v2", layer: int | None = None
) -> ContentEncoder:
    """Load the encoder of that name, once per process; its weights are downloaded if needed.

    Args:
      name: one of `config.CONTENT_ENCODERS`, a folder or fairseq file with a HuBERT model, or
        OWNER/NAME on the hub.
      version: version of the voice: HuBERT's last layer (v2), or its ninth and the final projection
        to 256 channels (v1). Whisper has the last layer only.
      layer: number of HuBERT's layer, from 1 on, in the place of the version's own.

    Raises:
      UserError: unknown name, or weights that cannot be downloaded or are not such a model's.
    """
    return load_cached(name, version, layer)


@functools.lru_cache
def load_cached(name: str, version: Literal["v1", "v2"], layer: int | None) -> ContentEncoder:
    """Load an encoder, with all arguments given: the cache distinguishes defaults from values."""
    if name.startswith("whisper-"):
        from rvc_jax.features.content.whisper import WhisperContent

        return WhisperContent.load(name)
    from rvc_jax.features.content.hubert import HubertContent

    try:
        return HubertContent.load(name, version, layer)
    except UserError as error:
        if name not in ENTRIES or store.find(name) is not None:
            raise
        how = f"bring it with `rvc-jax download {name}`"
        raise UserError(f"the content encoder {name} is not here: {error}; {how}") from error
