"""Isolates the voice in music, with the package audio-separator."""

from __future__ import annotations

import functools
import logging
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import decode
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import cache_dir, check_online
from rvc_jax.storage.installation import install_command
from rvc_jax.storage.scratch import make_scratch_name

_SEGMENT_SECONDS = 300  # the package holds all of its input in memory, several times
_OVERLAP_SECONDS = 5
_PEAK = 0.5  # the package attenuates a segment that is louder than 0.9, each by itself

_separator_lock = threading.Lock()


def isolate_vocals(
    blocks: Iterable[np.ndarray], rate: int, scratch: Path
) -> Iterator[np.ndarray]:
    """Keep the voice alone, in segments of five minutes with cross-fades between them.

    Args:
      blocks: float32 [channels, samples], finite; more than two channels are mixed.
      rate: in Hz.
      scratch: folder for a temporary copy of one segment.

    Returns: blocks [1, samples] at the same rate, of the same total length.

    Raises:
      UserError: audio-separator is not installed, or it fails.
    """
    overlap = _OVERLAP_SECONDS * rate
    fade = np.linspace(0, 1, overlap, dtype=np.float32)
    before = None
    for segment, is_last in _split_segments(blocks, _SEGMENT_SECONDS * rate, overlap):
        voice = _separate(segment, rate, scratch)
        if before is not None:
            voice[:overlap] = voice[:overlap] * fade + before * (1 - fade)
        before = voice[-overlap:]
        yield voice[None] if is_last else voice[None, :-overlap]


def _split_segments(
    blocks: Iterable[np.ndarray], length: int, overlap: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield ([one or two channels, samples], whether it is the last).

    Each segment begins with the overlap that ended the one before. The last one is longer than the
    overlap, and at most `length` + 2 overlaps long.
    """
    held = None
    for block in blocks:
        if len(block) > 2:
            block = block.mean(axis=0, keepdims=True)
        held = block if held is None else np.concatenate([held, block], axis=1)
        while held.shape[1] > length + 2 * overlap:
            yield held[:, : length + overlap], False
            held = held[:, length:]
    if held is not None:
        yield held, True


def _separate(segment: np.ndarray, rate: int, scratch: Path) -> np.ndarray:
    """Isolate the voice in a segment [channels, samples] -> [samples]."""
    samples = segment.shape[1]
    gain = _PEAK / max(float(np.abs(segment).max()), 1e-9)
    with _separator_lock, tempfile.TemporaryDirectory(dir=scratch) as folder:
        separator, outputs = load_separator()
        try:
            mix = Path(folder) / "segment.wav"
            soundfile.write(mix, gain * segment.T, rate, "FLOAT")
            (name,) = separator.separate(str(mix))
            stem = Path(outputs.name) / name
            channels, stem_rate = decode(stem)
            stem.unlink()
            if not np.isfinite(channels).all():
                raise ValueError("its model outputs NaN or infinite samples")
        except (Exception, SystemExit) as error:  # it exits if a model is damaged
            raise _separation_error(error) from error
    voice = resample(channels.mean(axis=0), stem_rate, rate)[:samples] / np.float32(gain)
    return np.pad(voice, (0, samples - len(voice)))


@functools.cache
def load_separator() -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    """Load the package with its default model, once; also the folder that it writes to."""
    try:
        from audio_separator.separator import (  # pyright: ignore[reportMissingImports] an extra
            Separator,
        )
    except ImportError as error:
        raise UserError(
            "taking the voice out of music needs the package audio-separator: "
            f"{install_command('separate')}"
        ) from error
    models = cache_dir() / "audio-separator"
    if not any(models.glob("*")):
        check_online("the server of audio-separator's models")
    outputs = tempfile.TemporaryDirectory(prefix=f"{make_scratch_name(hidden=False)}-")
    try:
        separator = Separator(
            log_level=logging.CRITICAL,
            model_file_dir=str(models),
            output_dir=outputs.name,
            output_format="WAV",
            output_single_stem="Vocals",
        )
        separator.load_model()
    except (Exception, SystemExit) as error:
        raise _separation_error(error) from error
    return separator, outputs


def _separation_error(error: BaseException) -> UserError:
    text = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"audio-separator failed: {text}; it needs the program ffmpeg, and the network for its "
        "first run"
    )
