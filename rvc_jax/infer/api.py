"""The entry point for programs and notebooks: `load_voice`."""

from __future__ import annotations

import os
from typing import Any

from rvc_jax.infer.voice import Voice


def load_voice(
    path: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    which: str = "best",
    content_encoder: str | os.PathLike[str] | None = None,
    member: str | None = None,
    **options: Any,
) -> Voice:
    """Load a voice from any file or folder that holds one.

        voice = rvc_jax.load_voice("ada.pth", transpose=3)
        audio = voice.convert(samples, rate)          # float32 at voice.sample_rate

    Args:
      path: A `.pth` of any RVC tool, a `.zip` as voices are shared, a `.safetensors`, a folder that
        `rvc-jax import` made, or the folder or URL of a run.
      index: A faiss `.index` or `.npy` in the place of the one that belongs to the voice or is
        beside its file; "none" for no index.
      which: `best` or `latest`; for a run only.
      content_encoder: The encoder that the voice was trained with, instead of what its file says: a
        name, a folder or file of a HuBERT model, or OWNER/NAME on the Hugging Face hub.
      member: Name of the voice's file in an archive or folder that holds several.
      options: As for `Voice.convert`; they hold for every call that does not name them.

    Raises:
      TypeError: unknown option.
      UserError: there is no voice, it is damaged or of another architecture, or the index belongs
        to another voice.
    """
    from rvc_jax.storage.environment import start_jax

    start_jax()
    index = None if index is None else os.fspath(index)
    encoder = None if content_encoder is None else os.fspath(content_encoder)
    return Voice.load(os.fspath(path), which, index, encoder, member, **options)
