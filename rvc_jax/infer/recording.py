"""Input audio prepared for conversion: mono, 16 kHz, leveled, with its silence gate."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.ndimage

from rvc_jax.audio import formants
from rvc_jax.audio.blocks import (
    Resampler,
    WaveCollector,
    block_ranges,
    collect_blocks,
    high_pass_blocks_zero_phase,
    read_range,
    reflect_positions,
    resample_blocks,
)
from rvc_jax.audio.filters import resampled_length
from rvc_jax.audio.level import FULL_SCALE, NORMAL_PEAK, Level, measure_level
from rvc_jax.audio.loudness import file_gain, rms, slice_gain
from rvc_jax.audio.offset import OffsetRemover
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE, PrepareConfig
from rvc_jax.errors import UserError
from rvc_jax.features.vad import has_speech
from rvc_jax.features.voice_source import open_voice
from rvc_jax.infer.chunking import CONTEXT_FRAMES

MIN_SECONDS = 0.1
"""Shorter recordings are padded with silence to this length."""

GATE_HOLD = 10
"""Frames that the gate stays open before and after audible sound."""

GATE_FADE = 5
"""Frames, on either side, over which the gate opens and closes."""


class RecordingError(UserError):
    """A recording that can't be converted; the text is the reason alone."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Audio on its way into a conversion. Its blocks can be read once."""

    rate: int
    """Sample rate in Hz."""
    blocks: Iterable[np.ndarray]
    """Consecutive blocks, each float32 [channels, samples]."""

    @classmethod
    def from_array(cls, wave: np.ndarray, rate: int) -> Source:
        """The source of an array [samples] or [channels, samples]."""
        channels = np.atleast_2d(np.asarray(wave, np.float32))
        return cls(
            rate, (channels[:, start:stop] for start, stop in block_ranges(channels.shape[1]))
        )

    notes: Sequence[str] = ()
    """What was chosen, and what is remarkable; complete when the blocks have been read."""

    @classmethod
    def open(
        cls, path: Path | str, track: int = 0, channel: int = 0, keep_channels: bool = False
    ) -> Source:
        """Open an audio file as the channels that have the voice; see `open_voice`.

        Raises:
          AudioError: as `open_voice` does, here or while the blocks are read.
        """
        opened = open_voice(path, track=track, channel=channel, keep_channels=keep_channels)
        return cls(opened.rate, opened.blocks, opened.notes)


@dataclasses.dataclass(frozen=True)
class Recording:
    """The mean of a source's channels, prepared for pitch and content extraction."""

    wave: np.ndarray
    """float32 [samples] at 16 kHz, high-pass filtered; a memmap if it is long."""
    gain: float
    """Factor that brings the wave to the level of the training slices."""
    silence_db: float
    """Level in dB of full scale below which the leveled wave counts as silence, so that the
    threshold follows the level of the recording."""
    samples: int
    """Length of the source in samples."""
    rate: int
    """Sample rate of the source in Hz."""
    channels: int
    """Channels of the source."""
    formant_shift: float = 0.0
    """Semitones by which formants are shifted before features are extracted."""
    side: np.ndarray | None = None
    """Half the difference of the first two channels, at the output's rate: float32 [samples]; None
    if it was not asked for, or the source has one channel."""
    level: Level = FULL_SCALE
    """Level of the wave before the gain."""

    @property
    def frames(self) -> int:
        """Length in frames, 100 a second. It is even; the last frames may be partly empty."""
        return 2 * -(-len(self.wave) // CONTENT_HOP)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start..stop, leveled and reflected beyond both ends: float32 [stop - start]."""
        gain = np.float32(self.gain)
        if start >= 0 and stop <= len(self.wave):
            return read_range(self.wave, start, stop) * gain
        positions = reflect_positions(np.arange(start, stop), len(self.wave))
        first = int(positions.min())
        return read_range(self.wave, first, int(positions.max()) + 1)[positions - first] * gain

    def read_formant_shifted(self, start: int, stop: int) -> np.ndarray:
        """As `read`, with formants shifted: the input of the feature extractors.

        start: a multiple of `formants.HOP`.
        """
        if not self.formant_shift:
            return self.read(start, stop)
        around = self.read(start - formants.CONTEXT, stop + formants.CONTEXT)
        shifted = formants.shift_formants(around, self.formant_shift)
        return shifted[formants.CONTEXT : -formants.CONTEXT]

    @functools.cached_property
    def audible(self) -> np.ndarray:
        """Whether there is sound within 0.1 s of a frame: bool [samples // 160 + 1]."""
        levels = rms(self.wave, 2 * FEATURE_HOP, FEATURE_HOP) * np.float32(self.gain)
        is_loud = levels > 10 ** (self.silence_db / 20)
        return scipy.ndimage.maximum_filter1d(is_loud, 2 * GATE_HOLD + 1)

    def compute_gate(self) -> np.ndarray:
        """The gain of every frame: 0 in silence, else 1, with short fades.

        Returns: float32 [samples // 160 + 1].
        """
        return scipy.ndimage.uniform_filter1d(
            self.audible.astype(np.float32), 2 * GATE_FADE + 1
        )

    def pad_audible(self) -> np.ndarray:
        """`audible` of the frames -CONTEXT_FRAMES..frames + CONTEXT_FRAMES, reflected as `read`
        reflects: bool [frames + 2 * CONTEXT_FRAMES]."""
        inner = self.audible[: self.frames]
        inner = np.pad(inner, (0, self.frames - len(inner)), mode="edge")
        return np.pad(inner, CONTEXT_FRAMES, mode="reflect")

    def length_at(self, rate: int) -> int:
        """Length of the source in samples at another rate."""
        return resampled_length(self.samples, self.rate, rate)


def prepare_input(
    source: Source,
    prepare: PrepareConfig,
    silence_db: float,
    *,
    formant_shift: float = 0.0,
    gain: float | None = None,
    side_rate: int | None = None,
) -> Recording:
    """Read a source to its end: mix it to mono, resample it to 16 kHz, filter and level it.

    Args:
      source: What to read. This is the only pass over it.
      prepare: How the training speech was filtered and leveled.
      silence_db: Level below which the leveled recording is silence, in dB of full scale.
      formant_shift: Shift of the formants in semitones.
      gain: Fixed gain in the place of the one that `prepare` gives.
      side_rate: Keep the side of a stereo source, at this rate in Hz.

    Raises:
      RecordingError: The source is empty, or has samples that are NaN or infinite.
      AudioError: The file of the source is damaged.
      UserError: The disk has no room for a long recording.
    """
    check = _InputCheck()
    side_wave = None
    with contextlib.ExitStack() as stack:
        side = None
        if side_rate is not None:
            side = stack.enter_context(_SideChannel(source.rate, side_rate))
        # The side leaves on the same pass as the mono mix: no source is read twice.
        blocks = _mix_down(source.blocks, check, side)
        if prepare.high_pass_hz:
            blocks = OffsetRemover(source.rate).remove(blocks)
        blocks = resample_blocks(blocks, source.rate, FEATURE_RATE)
        blocks = high_pass_blocks_zero_phase(
            _pad_short(blocks), FEATURE_RATE, prepare.high_pass_hz
        )
        wave = collect_blocks(blocks, FEATURE_RATE, scratch_folder())
        check.raise_if_bad()
        if side is not None and check.channels > 1:
            side_wave = side.finish()
    level = measure_level(wave, FEATURE_RATE, has_speech)
    return Recording(
        wave,
        _training_gain(wave, level, prepare) if gain is None else gain,
        silence_db,
        check.samples,
        source.rate,
        check.channels,
        formant_shift,
        side_wave,
        level,
    )


def scratch_folder() -> Path:
    """The folder for waves that are too long for memory. Nothing is left there."""
    return Path(tempfile.gettempdir())


@dataclasses.dataclass
class _InputCheck:
    """Counts what a source holds while it is read."""

    samples: int = 0
    channels: int = 0
    broken: int = 0

    def add(self, block: np.ndarray) -> None:
        """block: [channels, samples]."""
        self.samples += block.shape[1]
        self.channels = len(block)
        self.broken += int((~np.isfinite(block)).any(axis=0).sum())

    def raise_if_bad(self) -> None:
        """Raises RecordingError for a source without samples, or with some that are not finite."""
        if not self.samples:
            raise RecordingError("there is no sample in it")
        if self.broken:
            raise RecordingError(
                f"{self.broken} of {self.samples} samples are not numbers (NaN or infinite)"
            )


class _SideChannel:
    """Collects half the difference of the first two channels, at another rate."""

    def __init__(self, from_rate: int, to_rate: int):
        self._offset = OffsetRemover(from_rate)
        self._resampler = Resampler(from_rate, to_rate)
        self._collector = WaveCollector(to_rate, scratch_folder())

    def push(self, block: np.ndarray) -> None:
        """block: [channels, samples], at least two channels."""
        side = self._offset.push((block[0] - block[1]) / 2)
        self._collector.append(self._resampler.push(side))

    def finish(self) -> np.ndarray:
        """float32 [samples]; a memmap if it is long."""
        rest = self._offset.push(np.zeros(0, np.float32), last=True)
        self._collector.append(self._resampler.push(rest, last=True))
        return self._collector.finish()

    def __enter__(self) -> _SideChannel:
        self._collector.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._collector.__exit__(*error)


def _mix_down(
    blocks: Iterable[np.ndarray], check: _InputCheck, side: _SideChannel | None
) -> Iterator[np.ndarray]:
    """The mean of all channels, block by block; the side of stereo blocks goes to `side`."""
    for block in blocks:
        check.add(block)
        if check.broken:
            continue  # the conversion fails at the end: the rest is only counted
        if side is not None and len(block) > 1:
            side.push(block)
        yield block.mean(axis=0)


def _pad_short(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks with silence behind them up to MIN_SECONDS: extractors need a few frames at least."""
    samples = 0
    for block in blocks:
        samples += len(block)
        yield block
    missing = round(MIN_SECONDS * FEATURE_RATE) - samples
    if missing > 0:
        yield np.zeros(missing, np.float32)


def _training_gain(wave: np.ndarray, level: Level, prepare: PrepareConfig) -> float:
    """The gain that training speech got; 1 for a silent recording, which is not amplified.

    Where a cough or a slammed door stands out, the gain is that of the speech beside it.
    """
    if level.is_silent:
        return 1.0
    if prepare.normalization == "post":
        return slice_gain(level.speech, prepare)
    gain = file_gain(wave, FEATURE_RATE, prepare)[0]
    if prepare.normalization == "none" or level.speech < level.peak:
        # The speech must stay above what the extractors take for silence.
        return max(gain, NORMAL_PEAK / level.speech)
    return gain
