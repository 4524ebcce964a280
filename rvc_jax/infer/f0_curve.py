"""The pitch of the output: the recording's own, shifted, tuned to a scale, or taken from a file.

f0 is float32 [frames] in Hz at 100 frames a second; 0 is unvoiced. Only the median of a recording's
pitch needs all of its frames; everything else is computed frame by frame, so that a long recording
can be processed in blocks.
"""

from __future__ import annotations

import array
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rvc_jax.audio.reading import MAX_HOURS
from rvc_jax.config import FRAMES_PER_SECOND, PITCH_MAX_HZ, PITCH_MIN_HZ, ConvertConfig
from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.plain_files import RECORD_BYTES, read_text

MAX_LINES = 10_000_000
"""Most lines of a pitch file: more than a day at 100 a second."""

_MAX_LINE_LENGTH = 200
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
    """A pitch curve from a file: at least one value, at increasing times."""

    seconds: np.ndarray
    """Times, float64 [points]."""
    hz: np.ndarray
    """Pitch, float64 [points]; 0 is unvoiced."""


class F0Curve:
    """What the options make of a recording's pitch."""

    def __init__(self, config: ConvertConfig):
        """Read the pitch file, if there is one. Raises UserError if it can't be used."""
        self._config = config
        self._points = None if config.f0_file is None else read_f0_points(config.f0_file)

    def choose_transpose(self, median_f0: float, voice_median_f0: float) -> float:
        """The shift of a recording in semitones.

        It is the one that the options state, plus, where they ask for it, the whole semitones to
        the voice's or the stated median pitch.

        Args:
          median_f0: Median pitch of the recording in Hz; 0 if it is unknown.
          voice_median_f0: The same of the voice. An unknown pitch adds nothing.
        """
        target = 0.0
        if self._config.auto_transpose:
            target = voice_median_f0
        if self._config.proposed_pitch:
            target = self._config.proposed_pitch_threshold
        return self._config.transpose + round_to_semitones(median_f0, target)

    def apply(self, f0: np.ndarray, first: int, semitones: float) -> np.ndarray:
        """The pitch of the output.

        Args:
          f0: Pitch [frames] of the recording.
          first: Number of its first frame; the recording's first frame is 0.
          semitones: Shift of the pitch.
        """
        f0 = (f0 * 2 ** (semitones / 12)).astype(np.float32)
        if self._config.autotune:
            key = self._config.autotune_key or "C"
            f0 = snap_to_scale(
                f0, self._config.autotune_strength, key, self._config.autotune_scale
            )
        if self._points is not None:
            f0 = replace_from_points(f0, first, self._points)
        return f0


def round_to_semitones(from_hz: float, to_hz: float) -> float:
    """The nearest whole number of semitones from one pitch to another; 0 if either is 0."""
    if from_hz <= 0 or to_hz <= 0:
        return 0.0
    return float(round(12 * math.log2(to_hz / from_hz)))


def snap_to_scale(
    f0: np.ndarray, strength: float, key: str = "C", scale: str = "chromatic"
) -> np.ndarray:
    """Move pitch towards the nearest notes of a scale, in cents; a tie goes to the lower note.

    Args:
      f0: [frames] in Hz.
      strength: Share of the way to the note, 0..1.
      key: First note of the scale, "C" to "B", also flats such as "Eb".
      scale: "chromatic", "major" or "minor" (natural).

    Returns: float32 [frames]. The tuning is equal temperament with A at 440 Hz.
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
    """Replace pitch from the first point to the last; frames outside them keep theirs.

    Between two voiced points pitch moves linearly in cents, however far they are apart. Between two
    points of which one is unvoiced, frames are unvoiced.

    Args:
      f0: [frames] in Hz.
      first: Number of the first frame.
      points: The curve.
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
    """Read a pitch file: one line `seconds,Hz` per point, 0 Hz for unvoiced.

    Blanks, tabs and semicolons separate too. Empty lines, text behind a #, and a first line of
    words are ignored.

    Raises:
      UserError: The file can't be read or has no points in it, or a line, given by its number, is
        wrong: not two numbers, a time that does not increase, a pitch outside a voice's range.
    """
    path = Path(path)
    seconds = array.array("d")
    hz = array.array("d")
    try:
        with io.StringIO(read_text(path, RECORD_BYTES), None) as file:
            for number, text in _read_point_lines(path, file):
                previous = seconds[-1] if seconds else -math.inf
                time, pitch = _parse_point(path, number, text, previous)
                seconds.append(time)
                hz.append(pitch)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}") from error
    if not seconds:
        raise UserError(f"{path} has no points in it: a pitch file has lines of seconds,Hz")
    return F0Points(np.array(seconds), np.array(hz))


def _read_point_lines(path: Path, file: IO[str]) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that may be points. Long lines are never held in memory."""
    number = 0
    began = False
    while line := file.readline(_MAX_LINE_LENGTH + 1):
        number += 1
        if number > MAX_LINES:
            raise UserError(
                f"{path} has more than {MAX_LINES} lines: cut it, and the recording, into several"
            )
        if len(line) > _MAX_LINE_LENGTH and not line.endswith("\n"):
            if not line.lstrip().startswith("#"):
                raise _point_error(path, number, line, "it must be seconds,Hz")
            while line and not line.endswith("\n"):  # the rest of a long comment
                line = file.readline(_MAX_LINE_LENGTH)
            continue
        text = line.split("#")[0].strip()
        # Before the first point, a line of words is a header.
        if text and (began or any(map(_is_number, _split_fields(text)))):
            yield number, text
        began = began or bool(text)


def _split_fields(text: str) -> list[str]:
    return re.split(r"\s*[,;\s]\s*", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse_point(path: Path, number: int, text: str, previous: float) -> tuple[float, float]:
    """Time and pitch of one line. previous: time of the point before it."""
    try:
        seconds, hz = map(float, _split_fields(text))
    except ValueError:
        raise _point_error(path, number, text, "it must be seconds,Hz") from None
    if not 0 <= seconds <= 3600 * MAX_HOURS:
        reason = f"its time must be from 0 s to {MAX_HOURS} hours"
        raise _point_error(path, number, text, reason)
    if seconds <= previous:
        reason = f"its time must be later than {previous:g} s, that of the point before it"
        raise _point_error(path, number, text, reason)
    if hz != 0 and not PITCH_MIN_HZ <= hz <= PITCH_MAX_HZ:
        reason = f"its pitch must be {PITCH_MIN_HZ:g} to {PITCH_MAX_HZ:g} Hz, or 0 for unvoiced"
        raise _point_error(path, number, text, reason)
    return seconds, hz


def _point_error(path: Path, number: int, text: str, reason: str) -> UserError:
    shown = sanitize(text.strip(), 40)
    return UserError(
        f"{path}, line {number}: {shown!r} is not a point of a pitch curve: {reason}"
    )
