"""A recording of any length, heard once: what is spoken from it, and how loud it is where."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage

from rvc_jax.audio import blocks as stream
from rvc_jax.audio import formants
from rvc_jax.audio.filters import resampled_length
from rvc_jax.audio.loudness import file_gain, rms, slice_gain
from rvc_jax.audio.reading import decode_blocks
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE, PrepareConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CONTEXT_FRAMES

MIN_SECONDS = 0.1
"""Shorter recordings are spoken with silence behind them."""

GATE_HOLD = 10
GATE_FADE = 5
"""Frames on either side of what is heard that the gate stays open, and over which it opens and
closes."""


class RecordingError(UserError):
    """A recording that can't be converted; the text is the reason alone."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the samples come from. They are read once, or twice if the side of a stereo recording
    is kept."""

    rate: int
    """In Hz."""
    blocks: Callable[[], Iterable[np.ndarray]]
    """float32 [channels, samples], one after the other, from the beginning at every call."""

    @classmethod
    def of_array(cls, wave: np.ndarray, rate: int) -> Source:
        """wave: [samples] or [channels, samples]."""
        channels = np.atleast_2d(np.asarray(wave, np.float32))
        return cls(
            rate, lambda: (channels[:, a:b] for a, b in stream.block_ranges(channels.shape[1]))
        )

    @classmethod
    def of_file(cls, path: Path | str) -> Source:
        """Raises AudioError as `decode_blocks`, here or when the samples are read."""
        rate, first = decode_blocks(path)
        held = [first]  # opened already: the first reader goes on with it
        return cls(rate, lambda: held.pop() if held else decode_blocks(path)[1])


@dataclasses.dataclass(frozen=True)
class Recording:
    """The middle of all channels, as it is spoken from."""

    wave: np.ndarray
    """float32 [samples] at 16 kHz, without rumble; a long one lies on the disk."""
    gain: float
    """What brings it to the level that slices have in training."""
    silence_db: float
    samples: int
    """Of the source."""
    rate: int
    """Of the source."""
    channels: int
    """Of the source."""
    formant_shift: float = 0.0
    """Semitones by which pitch and content are to hear its resonances moved."""

    @property
    def frames(self) -> int:
        """Length in frames, 100 a second: even, the last ones may be partly empty."""
        return 2 * -(-len(self.wave) // CONTENT_HOP)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples of the levelled recording, reflected beyond its ends: float32 [stop - start]."""
        inside = max(start, 0), min(stop, len(self.wave))
        if inside == (start, stop):
            return stream.read_range(self.wave, start, stop) * np.float32(self.gain)
        period = 2 * (len(self.wave) - 1)
        places = np.mod(np.arange(start, stop), period)
        places = np.minimum(places, period - places)
        least = int(places.min())
        return stream.read_range(self.wave, least, int(places.max()) + 1)[
            places - least
        ] * np.float32(self.gain)

    def listened(self, start: int, stop: int) -> np.ndarray:
        """`read` with the formants moved: what pitch and content are found in. start: a multiple of
        `formants.HOP`."""
        if not self.formant_shift:
            return self.read(start, stop)
        around = self.read(start - formants.CONTEXT, stop + formants.CONTEXT)
        return formants.shift_formants(around, self.formant_shift)[
            formants.CONTEXT : -formants.CONTEXT
        ]

    @functools.cached_property
    def heard(self) -> np.ndarray:
        """Whether anything sounds within a tenth of a second of a frame: bool [samples // 160 +
        1]."""
        levels = rms(self.wave, 2 * FEATURE_HOP, FEATURE_HOP) * np.float32(self.gain)
        return scipy.ndimage.maximum_filter1d(
            levels > 10 ** (self.silence_db / 20), 2 * GATE_HOLD + 1
        )

    def gate(self) -> np.ndarray:
        """0 where nothing is heard, else 1, with short fades: float32 [samples // 160 + 1], by
        frame."""
        return scipy.ndimage.uniform_filter1d(self.heard.astype(np.float32), 2 * GATE_FADE + 1)

    def audible_frames(self) -> np.ndarray:
        """`heard` of the frames -CONTEXT_FRAMES..frames + CONTEXT_FRAMES, reflected as the sound
        is."""
        heard = self.heard[: self.frames]
        heard = np.pad(heard, (0, self.frames - len(heard)), mode="edge")
        return np.pad(heard, CONTEXT_FRAMES, mode="reflect")


def prepare_input(
    source: Source, prepare: PrepareConfig, silence_db: float, formant_shift: float = 0.0
) -> Recording:
    """Hear a source out: mixed to one channel, at 16 kHz, filtered and levelled as the training
    speech was.

    Raises:
      RecordingError: if there is no sample in it, or one that is not a number. AudioError: of a
          file's samples.
    """
    count = _Count()
    middle = _middle(source.blocks(), count)
    blocks = stream.resample_blocks(middle, source.rate, FEATURE_RATE)
    blocks = stream.high_pass_blocks_zero_phase(
        _padded(blocks), FEATURE_RATE, prepare.high_pass_hz
    )
    wave = stream.collect_blocks(blocks, FEATURE_RATE, scratch_folder())
    count.check()
    gain = _gain(wave, prepare)
    return Recording(
        wave, gain, silence_db, count.samples, source.rate, count.channels, formant_shift
    )


def scratch_folder() -> Path:
    """The folder for what is too long for the memory; nothing is left there."""
    return Path(tempfile.gettempdir())


def extract_side(source: Source, to_rate: int) -> np.ndarray:
    """Half the difference of the first two channels: float32 [samples] at another rate; a long one
    is on the disk."""
    blocks = ((block[0] - block[1]) / 2 for block in source.blocks())
    return stream.collect_blocks(
        stream.resample_blocks(blocks, source.rate, to_rate), to_rate, scratch_folder()
    )


def length_at(recording: Recording, rate: int) -> int:
    """Samples that the source has at another rate."""
    return resampled_length(recording.samples, recording.rate, rate)


@dataclasses.dataclass
class _Count:
    """What a source turned out to hold."""

    samples: int = 0
    channels: int = 0
    broken: int = 0

    def add(self, block: np.ndarray) -> None:
        self.samples += block.shape[1]
        self.channels = len(block)
        self.broken += int((~np.isfinite(block)).any(axis=0).sum())

    def check(self) -> None:
        if not self.samples:
            raise RecordingError("there is no sample in it")
        if self.broken:
            raise RecordingError(
                f"{self.broken} of {self.samples} samples are not numbers (NaN or infinite)"
            )


def _middle(blocks: Iterable[np.ndarray], count: _Count) -> Iterator[np.ndarray]:
    for block in blocks:
        count.add(block)
        if not count.broken:  # else it is only counted on
            yield block.mean(axis=0)


def _padded(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Silence behind what is very short: no method hears anything in less than a few of its
    frames."""
    samples = 0
    for block in blocks:
        samples += len(block)
        yield block
    missing = round(MIN_SECONDS * FEATURE_RATE) - samples
    if missing > 0:
        yield np.zeros(missing, np.float32)


def _gain(wave: np.ndarray, prepare: PrepareConfig) -> float:
    """As in training, but silence is not made louder."""
    peak = max(
        float(np.abs(stream.read_range(wave, a, b)).max())
        for a, b in stream.block_ranges(len(wave))
    )
    if peak < 10 ** (prepare.silence_db / 20) or not peak:
        return 1.0
    return (
        slice_gain(peak, prepare)
        if prepare.normalization == "post"
        else file_gain(wave, FEATURE_RATE, prepare)[0]
    )
