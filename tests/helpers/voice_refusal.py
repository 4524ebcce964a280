"""Why a file that is not a voice is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import native, pth_reader
from rvc_jax.voices.model import VoiceModel


def read_file(path: Path) -> VoiceModel:
    """Read a voice by the reader of its extension."""
    is_safetensors = path.suffix == ".safetensors"
    return native.read(path) if is_safetensors else pth_reader.read(path)


def refusal(path: Path, read: Callable[[Path], Any] = read_file) -> str:
    """The one line that refuses a file, with PATH for its path."""
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text and text.isprintable() and len(text) < len(str(path)) + 500
    return text.replace(str(path), "PATH")
