"""Where the voice is in a recording: its track, its channels and their scale.

A recording of several channels is usually one scene: the mean of all is the voice. Some are not:
channels in opposite phase cancel, one microphone of eight has the voice, music or noise is on the
other side, the first of two tracks is silent. These are found here, and only these are changed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import AudioError, OpenAudio, open_audio
from rvc_jax.config import FEATURE_RATE

_BLOCK = 1 << 18  # samples
_HELD_VALUES = 1 << 22  # of all channels: 44 s of stereo at 48 kHz
_SAMPLED_VALUES = 1 << 23
_WINDOW_SECONDS = 2.0
_AUDIBLE = 1e-3  # peak of a block that shows how the channels relate
_SETTLED_SECONDS = 3.0
_LEAST_SECONDS = 1.0  # of less, nothing is known but by chance
_ALIKE = 0.6  # correlation of a channel with the loudest from which both have one scene
_MOST_DIFFERENCE = 1e-2  # of energies, 20 dB, among channels of one scene
_CANCELLED = 0.03  # of energies: a sum of channels this weak has lost what they have in common
_NOTHING = 1e-6  # of energies, 60 dB below the loudest channel
_MOST_LISTENED = 16  # channels
_SPEECH_PROBABILITY = 0.5
_LEAST_SPEECH_SHARE = 0.15  # of the speech of the channel with most of it
_MOST_FLOAT = 100.0  # peak from which floating point samples must be scaled as integers
_SCALES = {16: 2.0**15, 24: 2.0**23, 32: 2.0**31}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to make of a recording's channels."""

    channels: tuple[int, ...] | None = None
    """Channels to take, from 0; None: all."""
    signs: tuple[float, ...] = ()
    """Sign of each of them."""
    scale: float = 1.0
    """Value of full scale."""
    notes: tuple[str, ...] = ()
    """What is unusual, one sentence each."""

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Take the channels of float32 [channels, samples]; their mean is the voice."""
        if self.channels is not None:
            block = block[list(self.channels)] * np.array(self.signs, np.float32)[:, None]
        return block if self.scale == 1 else block / np.float32(self.scale)


def open_voice(
    path: Path | str,
    start: float = 0.0,
    stop: float | None = None,
    *,
    track: int = 0,
    channel: int = 0,
    keep_channels: bool = False,
) -> OpenAudio:
    """Open a recording, or a cut of it, as the channels that have the voice.

    Args:
      path: The file.
      start, stop: The cut in seconds.
      track: Track of sound, from 1; 0: the first one that has a voice.
      channel: Channel, from 1; 0: all, but for those without a voice if others have one.
      keep_channels: Keep all channels as they are.

    Returns: The open recording; its `notes` say what was chosen, and why.

    Raises:
      AudioError: As `open_audio`, or there is no such track or channel.
    """
    number = max(track - 1, 0)
    opened = open_audio(path, start, stop, number)
    notes = []
    if opened.tracks > 1 and not track:
        number = choose_track(path, start, stop, opened.tracks)
        notes.append(f"track {number + 1} of {opened.tracks} is used; --track takes another")
        opened = open_audio(path, start, stop, number)
    if channel > opened.channels:
        raise AudioError(f"it has no channel {channel}: there are {opened.channels}")
    if not opened.is_float and (opened.channels == 1 or keep_channels):
        return _with_notes(opened, opened.blocks, notes)
    look, blocks = _look_ahead(opened)
    if blocks is None:
        look = _Look()
        for block in open_audio(path, start, stop, number).blocks:
            look.add(block, opened.rate)
        opened = open_audio(path, start, stop, number)
        blocks = opened.blocks
    choice = look.choose(opened.rate, opened.is_float, channel, keep_channels)
    return _with_notes(opened, map(choice.apply, blocks), [*notes, *choice.notes])


def choose_channels(
    wave: np.ndarray,
    rate: int,
    is_float: bool,
    channel: int = 0,
    keep_channels: bool = False,
) -> Choice:
    """Find the channels with the voice in an array.

    Args:
      wave: float32 [channels, samples].
      rate: Samples per second.
      is_float: Whether it may have another scale than 1.
      channel, keep_channels: As for `open_voice`.

    Raises:
      AudioError: There is no such channel.
    """
    if channel > len(wave):
        raise AudioError(f"it has no channel {channel}: there are {len(wave)}")
    look = _Look()
    for begin in range(0, wave.shape[1], _BLOCK):
        look.add(wave[:, begin : begin + _BLOCK], rate)
    return look.choose(rate, is_float, channel, keep_channels)


def _with_notes(opened: OpenAudio, blocks: Iterator[np.ndarray], notes: list[str]) -> OpenAudio:
    # The list of the open file goes on growing while it is read.
    opened.notes[:0] = notes
    return dataclasses.replace(opened, blocks=blocks)


def _look_ahead(opened: OpenAudio) -> tuple[_Look, Iterator[np.ndarray] | None]:
    """Read ahead until the channels are known to be one scene.

    Returns: what was found, and all blocks of the file. None instead of the blocks: more of the
      file must be known.
    """
    look = _Look()
    held = []
    values = 0
    for block in opened.blocks:
        held.append(block)
        look.add(block, opened.rate)
        values += block.size
        if look.is_settled(opened.rate):
            return look, itertools.chain(held, opened.blocks)
        if values > _HELD_VALUES:
            return look, None
    return look, iter(held)


def choose_track(path: Path | str, start: float, stop: float | None, tracks: int) -> int:
    """Return the first track with about as much speech as that with most of it, from 0.

    Args:
      path: The file.
      start, stop: The cut that is judged, in seconds; it may go beyond the end of the file.
      tracks: Tracks in the file; of very many the first ones are judged.

    Raises:
      AudioError: As `open_audio`.
    """
    speech = []
    level = []
    for number in range(min(tracks, _MOST_LISTENED)):
        opened = open_audio(path, start, stop, number)
        look = _Look()
        next_check = _HELD_VALUES // 2
        try:
            for block in opened.blocks:
                look.add(block.mean(axis=0, keepdims=True), opened.rate)
                is_known = not number and look.samples > next_check
                if is_known and look.count_speech(opened.rate, [0])[0] > 1:
                    return 0
                if is_known:
                    next_check = 4 * look.samples
        except AudioError:
            if not look.samples:
                speech.append(0.0)
                level.append(0.0)
                continue
        speech.append(look.count_speech(opened.rate, [0])[0])
        level.append(look.peak)
        if not number and speech[0] > 0.2 * look.seconds:
            return 0
    scores = speech if max(speech) else level
    return int(np.argmax(np.array(scores) >= _LEAST_SPEECH_SHARE * max(scores)))


class _Look:
    """What is known of the channels from the blocks so far."""

    def __init__(self) -> None:
        self.samples = 0
        self.seconds = 0.0
        self.peak = 0.0
        self._audible = 0
        self._is_integer = True
        self._products: np.ndarray | None = None
        self._windows: list[np.ndarray] = []
        self._stride = 1
        self._seen = 0
        self._open: list[np.ndarray] = []
        self._open_samples = 0

    def add(self, block: np.ndarray, rate: int) -> None:
        """block: float32 [channels, samples]."""
        self.samples += block.shape[1]
        self.seconds = self.samples / rate
        peak = float(np.abs(block).max(initial=0.0))
        if not np.isfinite(peak):
            block = np.where(np.isfinite(block), block, 0)
            peak = float(np.abs(block).max(initial=0.0))
        self.peak = max(self.peak, peak)
        if self._is_integer:
            self._is_integer = bool((block == np.rint(block)).all())
        if peak > _AUDIBLE:
            self._audible += block.shape[1]
        # Values of 1e38 have no square.
        scaled = block / np.float32(peak) if peak > 1e6 else block
        scaled = scaled - scaled.mean(axis=1, keepdims=True)
        products = (scaled @ scaled.T).astype(np.float64)
        self._products = products if self._products is None else self._products + products
        self._sample(block, rate)

    def is_settled(self, rate: int) -> bool:
        """Return whether nothing unusual is to be expected of the rest."""
        if self._audible < _SETTLED_SECONDS * rate or self.peak > 2:
            return False
        assert self._products is not None
        return len(self._products) == 1 or self._is_one_scene()

    def choose(self, rate: int, is_float: bool, channel: int, keep: bool) -> Choice:
        """Choose the channels and their scale; `channel` from 1, or 0 to find it."""
        if self._products is None:
            return Choice()
        scale, notes = self._find_scale() if is_float else (1.0, ())
        if keep or len(self._products) == 1:
            return Choice(scale=scale, notes=notes)
        if channel:
            return Choice((channel - 1,), (1.0,), scale, notes)
        if self.seconds < _LEAST_SECONDS:
            return Choice(scale=scale, notes=notes)
        channels = self._find_voice(rate)
        signs = self._find_signs(channels, rate)
        count = len(self._products)
        if len(channels) == count and min(signs) > 0:
            return Choice(scale=scale, notes=notes)
        return Choice(channels, signs, scale, (*notes, _describe(channels, signs, count)))

    def count_speech(self, rate: int, channels: Iterable[int]) -> list[float]:
        """Return the seconds of speech in each channel, in the windows that were kept."""
        assert self._products is not None
        weights = np.eye(len(self._products), dtype=np.float32)
        return self._count_speech(rate, [weights[channel] for channel in channels])

    def _count_speech(self, rate: int, mixes: list[np.ndarray]) -> list[float]:
        """Return the seconds of speech in mixes of the channels, given by their weights."""
        from rvc_jax.features import vad

        windows = [*self._windows, *([self._join_open()] if self._open else [])]
        seconds = []
        for weights in mixes:
            wave = np.concatenate([weights @ window for window in windows])
            wave = np.where(np.isfinite(wave), wave, 0)
            peak = np.abs(wave).max(initial=0.0)
            if peak < 1e-5:
                seconds.append(0.0)
                continue
            audio = resample(wave * np.float32(0.5 / peak), rate, FEATURE_RATE)
            probability = vad.speech_probability(audio)
            found = int((probability > _SPEECH_PROBABILITY).sum())
            seconds.append(found * vad.WINDOW / FEATURE_RATE)
        return seconds

    def _find_scale(self) -> tuple[float, tuple[str, ...]]:
        is_scaled = self.peak > _MOST_FLOAT or (self._is_integer and self.peak > 1.5)
        if not is_scaled or self.peak > 1.01 * _SCALES[32]:
            return 1.0, ()
        bits = next(bits for bits, scale in _SCALES.items() if self.peak <= 1.01 * scale)
        note = (
            f"its samples are scaled as integers of {bits} bits: divided by {_SCALES[bits]:.0f}"
        )
        return _SCALES[bits], (note,)

    def _energies(self) -> np.ndarray:
        assert self._products is not None
        return np.maximum(np.diagonal(self._products), 0)

    def _correlations(self) -> np.ndarray:
        """Correlation of every channel with the loudest: [channels]."""
        assert self._products is not None
        energies = self._energies()
        loudest = int(energies.argmax())
        norm = np.sqrt(energies * energies[loudest])
        return self._products[loudest] / np.maximum(norm, 1e-30)

    def _is_one_scene(self) -> bool:
        energies = self._energies()
        if not energies.max():
            return False
        is_level = energies.min() >= _MOST_DIFFERENCE * energies.max()
        return bool(is_level and self._correlations().min() >= _ALIKE)

    def _find_voice(self, rate: int) -> tuple[int, ...]:
        """Return the channels that have the voice."""
        energies = self._energies()
        everything = tuple(range(len(energies)))
        if not energies.max() or self._is_one_scene():
            return everything
        audible = np.flatnonzero(energies > _NOTHING * energies.max())
        loud = np.flatnonzero(energies >= _MOST_DIFFERENCE * energies.max())
        is_alike = np.abs(self._correlations()) >= _ALIKE
        if len(loud) == len(energies) and is_alike.all():
            return everything
        candidates = sorted(
            sorted(audible.tolist(), key=lambda channel: -energies[channel])[:_MOST_LISTENED]
        )
        speech = self.count_speech(rate, candidates)
        most = max(speech)
        if not most:
            return everything
        voiced = [
            channel
            for channel, seconds in zip(candidates, speech, strict=True)
            if seconds >= _LEAST_SPEECH_SHARE * most
        ]
        # A voice that leaks faintly into the microphones of others adds their noise alone.
        least = _MOST_DIFFERENCE * energies[voiced].max()
        return tuple(channel for channel in voiced if energies[channel] >= least)

    def _find_signs(self, channels: tuple[int, ...], rate: int) -> tuple[float, ...]:
        """Return the sign of each channel that makes it agree with the loudest of them."""
        assert self._products is not None
        chosen = self._products[np.ix_(channels, channels)]
        energies = np.maximum(np.diagonal(chosen), 1e-30)
        loudest = int(energies.argmax())
        correlation = chosen[loudest] / np.sqrt(energies * energies[loudest])
        signs = np.where(correlation <= -_ALIKE, -1.0, 1.0)
        signs *= signs[0]
        plain = np.ones_like(signs)
        if signs.min() > 0:
            return tuple(signs.tolist())
        if plain @ chosen @ plain > _CANCELLED * (signs @ chosen @ signs):
            # It may be music that is in opposite phase, and the voice may be in the middle.
            mixes = np.zeros((2, len(self._products)), np.float32)
            mixes[:, list(channels)] = (plain, signs)
            as_is, turned = self._count_speech(rate, list(mixes))
            signs = plain if as_is > turned else signs
        return tuple(signs.tolist())

    def _sample(self, block: np.ndarray, rate: int) -> None:
        """Keep windows spread over the recording, in bounded memory."""
        self._open.append(block)
        self._open_samples += block.shape[1]
        if self._open_samples < _WINDOW_SECONDS * rate:
            return
        if self._seen % self._stride == 0:
            self._windows.append(self._join_open())
        self._seen += 1
        self._open.clear()
        self._open_samples = 0
        if (
            sum(window.size for window in self._windows) > _SAMPLED_VALUES
            and self._stride < 1 << 20
        ):
            self._windows = self._windows[::2]
            self._stride *= 2

    def _join_open(self) -> np.ndarray:
        return np.concatenate(self._open, axis=1)


def _describe(channels: tuple[int, ...], signs: tuple[float, ...], count: int) -> str:
    names = ", ".join(str(channel + 1) for channel in channels)
    if len(channels) == count:
        return "its channels are in opposite phase: they are added with opposite signs"
    what = f"channel {names}" if len(channels) == 1 else f"the mean of the channels {names}"
    turned = ", with opposite signs" if min(signs) < 0 else ""
    return f"{what} of {count} is used{turned}: the voice is there; --channel takes another"
