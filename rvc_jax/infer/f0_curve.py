"""The pitch that is spoken: the recording's own, shifted, tuned to a scale, or taken from a file.

f0 is float32 [frames] in Hz at 100 frames a second, 0 is unvoiced. All but the medians is told
frame by frame, so that a long recording can be treated in blocks.
"""

from __future__ import annotations

import array
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rvc_jax.audio.reading import MAX_HOURS
from rvc_jax.config import FRAMES_PER_SECOND, PITCH_MAX_HZ, PITCH_MIN_HZ, ConvertConfig
from rvc_jax.errors import UserError, sanitize

MAX_LINES = 10_000_000
"""Of a pitch file: more than a day at 100 a second."""

_LONGEST_LINE = 200
_KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
_SCALES = {
    "chromatic": range(12),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
_A4_HZ = 440.0
_A4_NOTE = 69
_NOTES = 140  # MIDI numbers, from 8 Hz to 26 kHz


class F0Points(NamedTuple):
    """A pitch curve from a file: one value or more, at rising times."""

    seconds: np.ndarray
    hz: np.ndarray
    """0 is unvoiced."""


class F0Curve:
    """What the settings make of a recording's pitch."""

    def __init__(self, config: ConvertConfig):
        """Raises UserError if the pitch file can't be used."""
        self._config = config
        self._points = None if config.f0_file is None else read_f0_points(config.f0_file)

    def semitones(self, median_f0: float, voice_median_f0: float) -> float:
        """How far to shift a recording: as asked for, and by whole semitones to the voice's or the
        stated median pitch.

        median_f0: of the recording in Hz, voice_median_f0: of the voice; 0 if unknown, which shifts
        nothing.
        """
        target = voice_median_f0 if self._config.auto_transpose else 0.0
        target = (
            self._config.proposed_pitch_threshold if self._config.proposed_pitch else target
        )
        return self._config.transpose + round_to_semitones(median_f0, target)

    def spoken(self, f0: np.ndarray, first: int, semitones: float) -> np.ndarray:
        """The pitch to speak, of some frames, `first` being the number of the first one (the
        recording's is 0)."""
        f0 = (f0 * 2 ** (semitones / 12)).astype(np.float32)
        if self._config.autotune:
            scale = self._config.autotune_scale
            key = self._config.autotune_key or "C"
            f0 = snap_to_scale(f0, self._config.autotune_strength, key, scale)
        return f0 if self._points is None else replace_from_points(f0, first, self._points)


def round_to_semitones(from_hz: float, to_hz: float) -> float:
    """The nearest number of semitones from one pitch to another; 0 if either is 0."""
    return float(round(12 * math.log2(to_hz / from_hz))) if from_hz > 0 and to_hz > 0 else 0.0


def snap_to_scale(
    f0: np.ndarray, strength: float, key: str = "C", scale: str = "chromatic"
) -> np.ndarray:
    """f0 drawn to the nearest note of a scale, on the scale of cents; a tie goes to the lower one.

    strength: share of the way, 0..1. key: its first note, "C" to "B", also "Eb". scale: chromatic,
    major or minor (natural). The tuning is equal, with A at 440 Hz.
    """
    tonic = _KEYS.index(_FLATS.get(key, key))
    steps = {(tonic + step) % 12 for step in _SCALES[scale]}
    notes = np.array([note for note in range(_NOTES) if note % 12 in steps], np.float64)
    voiced = f0 > 0
    pitch = _A4_NOTE + 12 * np.log2(np.where(voiced, f0, _A4_HZ).astype(np.float64) / _A4_HZ)
    nearest = notes[np.searchsorted((notes[1:] + notes[:-1]) / 2, pitch)]
    pitch += strength * (nearest - pitch)
    return np.where(voiced, _A4_HZ * 2 ** ((pitch - _A4_NOTE) / 12), 0).astype(np.float32)


def replace_from_points(f0: np.ndarray, first: int, points: F0Points) -> np.ndarray:
    """f0 [frames] with the points' pitch from the first point to the last; beyond them it stays.

    Between two voiced points pitch moves evenly in cents, however far they are apart; between two
    of which one is unvoiced nothing is voiced.
    """
    seconds = (first + np.arange(len(f0))) / FRAMES_PER_SECOND
    after = np.clip(np.searchsorted(points.seconds, seconds), 0, len(points.seconds) - 1)
    before = np.maximum(after - (points.seconds[after] != seconds), 0)
    voiced = (points.hz[before] > 0) & (points.hz[after] > 0)
    logs = np.log(np.where(points.hz > 0, points.hz, 1.0))
    curve = np.where(voiced, np.exp(np.interp(seconds, points.seconds, logs)), 0)
    inside = (seconds >= points.seconds[0]) & (seconds <= points.seconds[-1])
    return np.where(inside, curve, f0).astype(np.float32)


def read_f0_points(path: Path | str) -> F0Points:
    """Read a pitch file: a line `seconds,Hz` per point (blanks, tabs and semicolons separate too),
    0 Hz being unvoiced.

    Empty lines and what follows a # count for nothing, nor does a first line of words.

    Raises:
      UserError: a file that can't be read or has no points in it; the first line that is wrong, by
        number: no two numbers, a time that doesn't rise, a pitch that no voice has.
    """
    path = Path(path)
    seconds = array.array("d")
    hz = array.array("d")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file: name one with lines of seconds,Hz")
        with path.open(encoding="utf-8-sig") as file:
            for number, text in _lines(path, file):
                time, pitch = _point(path, number, text, seconds[-1] if seconds else -math.inf)
                seconds.append(time)
                hz.append(pitch)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text: a pitch file has lines of seconds,Hz") from error
    if not seconds:
        raise UserError(f"{path} has no points in it: a pitch file has lines of seconds,Hz")
    return F0Points(np.array(seconds), np.array(hz))


def _lines(path: Path, file: IO[str]) -> Iterator[tuple[int, str]]:
    """The numbers and texts of the lines that may be points."""
    number = 0
    began = False
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if number > MAX_LINES:
            raise UserError(
                f"{path} has more than {MAX_LINES} lines: cut it, and the recording, into several"
            )
        if len(line) > _LONGEST_LINE and not line.endswith("\n"):
            if not line.lstrip().startswith("#"):
                raise _wrong(path, number, line, "it must be seconds,Hz")
            while line and not line.endswith("\n"):  # the rest of a long comment
                line = file.readline(_LONGEST_LINE)
            continue
        text = line.split("#")[0].strip()
        if text and (began or any(map(_is_number, _fields(text)))):
            yield number, text
        began = began or bool(text)


def _fields(text: str) -> list[str]:
    return re.split(r"\s*[,;\s]\s*", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _point(path: Path, number: int, text: str, previous: float) -> tuple[float, float]:
    try:
        seconds, hz = map(float, _fields(text))
    except ValueError:
        raise _wrong(path, number, text, "it must be seconds,Hz") from None
    if not 0 <= seconds <= 3600 * MAX_HOURS:
        raise _wrong(path, number, text, f"its time must be from 0 s to {MAX_HOURS} hours")
    if seconds <= previous:
        raise _wrong(
            path,
            number,
            text,
            f"its time must be later than {previous:g} s, that of the point before it",
        )
    if hz != 0 and not PITCH_MIN_HZ <= hz <= PITCH_MAX_HZ:
        raise _wrong(
            path,
            number,
            text,
            f"its pitch must be {PITCH_MIN_HZ:g} to {PITCH_MAX_HZ:g} Hz, or 0 for unvoiced",
        )
    return seconds, hz


def _wrong(path: Path, number: int, text: str, reason: str) -> UserError:
    return UserError(
        f"{path}, line {number}: {sanitize(text.strip(), 40)!r} is no point of a pitch curve: {reason}"
    )
