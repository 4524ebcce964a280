"""Recordings that are compared: read within bounds, refused if they cannot be measured, paired by
their names."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path, PurePath

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import AudioError, decode_blocks, find_audio
from rvc_jax.config import FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.features import vad
from rvc_jax.metrics import signal as quality

MIN_SECONDS = 0.1
"""Less cannot be measured."""
_SILENT_PEAK = 1e-4


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording, or the stretch of it that is measured."""

    wave: np.ndarray
    """float32 [samples], mono."""
    rate: int
    whole: bool = True
    """Whether it is the whole recording."""

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate

    @property
    def is_silent(self) -> bool:
        """Whether no sample is above -80 dB of full scale."""
        return float(np.abs(self.wave).max()) < _SILENT_PEAK

    @functools.cached_property
    def audio16k(self) -> np.ndarray:
        """float32 [samples] at 16 kHz."""
        return resample(self.wave, self.rate, FEATURE_RATE)

    @functools.cached_property
    def speech_probability(self) -> np.ndarray:
        """[windows] of 32 ms."""
        return vad.speech_probability_in_slice(self.audio16k)

    @property
    def speech16k(self) -> np.ndarray:
        """The moments of `audio16k` in which speech is heard, put together."""
        windows = self.audio16k[: len(self.audio16k) // vad.WINDOW * vad.WINDOW].reshape(
            -1, vad.WINDOW
        )
        return windows[
            self.speech_probability[: len(windows)] >= quality.SPEECH_PROBABILITY
        ].reshape(-1)

    def bandwidth(self) -> float | None:
        """Highest frequency in Hz at which speech is heard (`audio.quality.bandwidth`); None: too
        little speech."""
        frames = quality.split_frames(self.wave, self.rate)
        count = min(len(frames), len(self.speech_probability))
        spectra, counts = quality.sum_spectra(frames[:count], self.speech_probability[:count])
        if not counts[0]:
            return None
        return quality.bandwidth(
            spectra[0] / counts[0], spectra[1] / counts[1] if counts[1] else None
        )


def read_clip(path: Path, start: float = 0.0, seconds: float = math.inf) -> Clip:
    """A stretch of a recording; no more of it than that is read.

    Raises:
      UserError: if it cannot be read, ends before `start`, has NaN in it, or has less than 0.1 s to
          measure.
    """
    try:
        rate, blocks = decode_blocks(path, start)
        wanted = seconds * rate
        parts = []
        held = 0
        for block in blocks:
            parts.append(block.mean(axis=0))
            held += len(parts[-1])
            if held > wanted:
                break
    except AudioError as error:
        raise UserError(f"{path} can't be measured: {error}") from error
    wave = np.concatenate(parts)[: None if math.isinf(wanted) else round(wanted)]
    if len(wave) < MIN_SECONDS * rate:
        raise UserError(
            f"{path} can't be measured: {1000 * len(wave) / rate:.0f} ms of sound; it takes 100 ms or more"
        )
    if not np.isfinite(wave).all():
        raise UserError(f"{path} can't be measured: it has NaN or infinite samples in it")
    return Clip(wave, rate, whole=start == 0 and held <= wanted)


@dataclasses.dataclass(frozen=True)
class ConversionFiles:
    """A conversion and what it is compared with, where there is such a thing."""

    name: str
    converted: Path
    source: Path | None = None
    reference: Path | None = None
    """The target speaker saying the same words."""


def pair_files(
    converted: Path, source: Path | None, reference: Path | None
) -> tuple[list[ConversionFiles], list[str]]:
    """A file with a file, or the recordings of a folder with those of other folders that have their
    names.

    The ending of a name does not count: a.flac is a.wav's. Of the conversions in a folder, those
    without a source are left out, if sources are named.

    Returns: the pairs, and a sentence for every recording that found none.

    Raises:
      UserError: a file and a folder, something that does not exist, or folders without a common
          name.
    """
    others = [path for path in (source, reference) if path is not None]
    for path in (converted, *others):
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if path.is_dir() != converted.is_dir():
            raise UserError(
                f"{converted} and {path}: name files, or folders whose recordings have equal names"
            )
    if not converted.is_dir():
        return [ConversionFiles(converted.name, converted, source, reference)], []
    conversions, sources, references = (
        path and _by_name(path) for path in (converted, source, reference)
    )
    paired = [
        ConversionFiles(
            name, path, sources and sources.get(name), references and references.get(name)
        )
        for name, path in conversions.items()
        if not sources or name in sources
    ]
    if not paired:
        raise UserError(
            f"no recording in {converted} has the name of one in {' or '.join(map(str, others))}"
        )
    alone = sorted(set(conversions) ^ set(sources)) if sources else []
    return paired, [f"{name} has no partner of that name and is left out" for name in alone]


def _by_name(folder: Path) -> dict[str, Path]:
    """Recordings by their path in the folder, without its ending. Raises UserError if that does not
    tell them apart."""
    found = {}
    for path in find_audio(folder):
        name = str(PurePath(path.relative_to(folder)).with_suffix(""))
        if name in found:
            raise UserError(
                f"{found[name]} and {path} have one name; leave one of them in the folder"
            )
        found[name] = path
    if not found:
        raise UserError(f"{folder} holds no recordings")
    return found
