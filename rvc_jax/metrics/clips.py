"""Recordings to measure: read within limits, refused if unmeasurable, paired by name."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path, PurePath

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.level import SILENT_PEAK, measure_level
from rvc_jax.audio.reading import AudioError, find_audio
from rvc_jax.config import FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.features import vad
from rvc_jax.features.voice_source import open_voice
from rvc_jax.metrics import signal

MIN_SECONDS = 0.1
"""Shorter recordings cannot be measured."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording, or the part of it that is measured."""

    wave: np.ndarray
    """float32 [samples], mono."""
    rate: int
    """In Hz."""
    whole: bool = True
    """Whether it is the whole recording."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.wave) / self.rate

    @property
    def is_silent(self) -> bool:
        """Whether no sample is above -80 dB of full scale."""
        return float(np.abs(self.wave).max()) < SILENT_PEAK

    @functools.cached_property
    def raising_gain(self) -> float:
        """Factor by which a quiet recording is raised where its level must not matter."""
        return measure_level(self.wave, self.rate).raising_gain

    @functools.cached_property
    def audio16k(self) -> np.ndarray:
        """float32 [samples] at 16 kHz."""
        return resample(self.wave, self.rate, FEATURE_RATE)

    @functools.cached_property
    def speech_probability(self) -> np.ndarray:
        """Probability of speech in windows of 32 ms: [windows]."""
        return vad.speech_probability_in_slice(self.audio16k * np.float32(self.raising_gain))

    @property
    def speech16k(self) -> np.ndarray:
        """The windows of `audio16k` with speech, concatenated."""
        count = len(self.audio16k) // vad.WINDOW
        windows = self.audio16k[: count * vad.WINDOW].reshape(-1, vad.WINDOW)
        is_speech = self.speech_probability[:count] >= signal.SPEECH_PROBABILITY
        return windows[is_speech].reshape(-1)

    def bandwidth(self) -> float | None:
        """Find the highest frequency of speech in Hz (`metrics.signal.bandwidth`).

        None: too little speech.
        """
        frames = signal.split_frames(self.wave, self.rate)
        count = min(len(frames), len(self.speech_probability))
        probability = self.speech_probability[:count]
        sums, counts = signal.sum_spectra(frames[:count], probability)
        if not counts[0]:
            return None
        speech = sums[0] / counts[0]
        pause = sums[1] / counts[1] if counts[1] else None
        return signal.bandwidth(speech, pause)


def read_clip(path: Path, start: float = 0.0, seconds: float = math.inf) -> Clip:
    """Read a part of a recording, and no more of it.

    Raises:
      UserError: it cannot be read, ends before `start`, contains NaN, or has less than 0.1 s to
        measure.
    """
    parts = []
    count = 0
    try:
        opened = open_voice(path, start)
        rate = opened.rate
        wanted = seconds * rate
        for block in opened.blocks:
            parts.append(block.mean(axis=0))
            count += len(parts[-1])
            if count > wanted:
                break
    except AudioError as error:
        raise UserError(f"{path} can't be measured: {error}") from error
    wave = np.concatenate(parts)[: None if math.isinf(wanted) else round(wanted)]
    if len(wave) < MIN_SECONDS * rate:
        raise UserError(
            f"{path} can't be measured: {1000 * len(wave) / rate:.0f} ms of sound; "
            "it takes 100 ms or more"
        )
    if not np.isfinite(wave).all():
        raise UserError(f"{path} can't be measured: it has NaN or infinite samples in it")
    return Clip(wave, rate, whole=start == 0 and count <= wanted)


@dataclasses.dataclass(frozen=True)
class ConversionFiles:
    """A conversion and the recordings that it is compared with, if there are any."""

    name: str
    converted: Path
    source: Path | None = None
    reference: Path | None = None
    """The target speaker saying the same words."""


def pair_files(
    converted: Path, source: Path | None, reference: Path | None
) -> tuple[list[ConversionFiles], list[str]]:
    """Pair a file with a file, or the recordings of a folder with those of equal names in others.

    File extensions do not count: a.flac pairs with a.wav. If there are sources, conversions without
    one are left out.

    Returns: the pairs, and a sentence for every recording without a partner.

    Raises:
      UserError: a file and a folder, a path that does not exist, or folders without a common name.
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
    conversions = _list_by_name(converted)
    sources = _list_by_name(source) if source else None
    references = _list_by_name(reference) if reference else {}
    paired = []
    for name, path in conversions.items():
        if sources is None:
            paired.append(ConversionFiles(name, path, None, references.get(name)))
        elif name in sources:
            paired.append(ConversionFiles(name, path, sources[name], references.get(name)))
    if not paired:
        places = " or ".join(map(str, others))
        raise UserError(f"no recording in {converted} has the name of one in {places}")
    alone = sorted(conversions.keys() ^ sources.keys()) if sources else []
    return paired, [f"{name} has no partner of that name and is left out" for name in alone]


def _list_by_name(folder: Path) -> dict[str, Path]:
    """List recordings by their path in the folder without its extension.

    Raises UserError if two have the same one, or there are none.
    """
    found: dict[str, Path] = {}
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
