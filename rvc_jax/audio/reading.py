"""Finds and decodes audio files, within limits that hostile files cannot exceed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.tracks import AudioError, DecodeError, Track, find_reason, open_track
from rvc_jax.errors import UserError, describe_os_error, make_printable

__all__ = [
    "AUDIO_EXTENSIONS",
    "MAX_HOURS",
    "AudioError",
    "OpenAudio",
    "SearchResult",
    "decode",
    "decode_blocks",
    "find_audio",
    "load",
    "open_audio",
    "search_folder",
]

# fmt: off
AUDIO_EXTENSIONS = frozenset((
    ".wav", ".wave", ".bwf", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".voc", ".flac", ".ape", ".wv", ".tta", ".tak", ".mp3", ".mp2", ".mpga", ".ogg",
    ".oga", ".opus", ".spx", ".wma", ".amr", ".aac", ".ac3", ".eac3", ".dts", ".mka",
    ".weba", ".m4a", ".m4b", ".m4r", ".m4p", ".mp4a", ".3ga", ".mp4", ".m4v", ".mkv",
    ".mov", ".qt", ".webm", ".avi", ".3gp", ".3g2", ".flv", ".asf", ".wmv", ".ts", ".mts",
    ".m2ts", ".vob", ".mpg", ".mpeg", ".ogv",
))
# fmt: on
"""Files with these extensions are recordings when a folder is searched; others are looked into."""

MAX_HOURS = 24
"""Longest recording that is read."""

_BLOCK = 1 << 12  # samples of a channel that are decoded at once
_BLOCK_VALUES = 1 << 20  # samples of all channels together: eleven seconds of stereo at 48 kHz
# FLAC packs digital silence at 700; only a file made to fill disks goes further.
_MAX_VALUES_PER_BYTE = 4000
_CUT_TOLERANCE = 0.5  # seconds that a cut may extend beyond the end of the file
_UNFINISHED_EXTENSIONS = frozenset((".part", ".ytdl", ".crdownload", ".partial"))
_SIDECAR_SUFFIX = ".source.json"
_NAMES_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a folder holds."""

    recordings: tuple[Path, ...]
    """Sorted."""
    others: tuple[tuple[Path, str], ...]
    """Files that are left out, each with the reason; hidden ones are not among them."""

    def describe_others(self) -> str | None:
        """Return a sentence on the files that are left out; None if there are none."""
        if not self.others:
            return None
        shown = [f"{path.name} ({reason})" for path, reason in self.others[:_NAMES_SHOWN]]
        more = len(self.others) - len(shown)
        count = len(self.others)
        names = ", ".join(shown) + (f" and {more} more" if more else "")
        is_one = count == 1
        return make_printable(
            f"{count} {'file' if is_one else 'files'} left out, not recordings: {names}"
        )


def find_audio(folder: Path) -> list[Path]:
    """Find all recordings in a folder and its sub-folders, sorted; see `search_folder`."""
    return list(search_folder(folder).recordings)


def search_folder(folder: Path) -> SearchResult:
    """Find the recordings in a folder and its sub-folders, but for hidden ones.

    A file with an extension of `AUDIO_EXTENSIONS` is one; any other file is looked into. Links are
    followed; a folder with several links to it is searched once.

    Raises:
      UserError: it is not a folder, or may not be read.
    """
    found = []
    others = []
    for path in _walk(Path(folder)):
        extension = path.suffix.lower()
        if path.name.endswith(_SIDECAR_SUFFIX):
            continue
        if extension in AUDIO_EXTENSIONS:
            reason = None if path.is_file() else "not a file"
        elif extension in _UNFINISHED_EXTENSIONS:
            reason = "an unfinished download; rename it if it is whole"
        else:
            reason = find_reason(path)
        if reason is None:
            found.append(path)
        else:
            others.append((path, reason))
    return SearchResult(tuple(sorted(found)), tuple(sorted(others)))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and its sub-folders and no folder itself."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    seen = set()
    # Linked folders come last, so that a folder is searched by its own path if it is in here.
    folders = [folder]
    linked = []
    while folders or linked:
        current = (folders or linked).pop(0)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for path in sorted(current.iterdir()):
                if path.name.startswith("."):
                    continue
                if path.is_dir():
                    (linked if path.is_symlink() else folders).append(path)
                else:
                    yield path
        except OSError as error:
            raise UserError(f"{current} cannot be read: {describe_os_error(error)}") from error


def load(path: Path | str, rate: int) -> np.ndarray:
    """Read a file as mono at the given rate: float32 [samples].

    Raises:
      AudioError: as `decode`.
    """
    channels, file_rate = decode(path)
    return resample(channels.mean(axis=0), file_rate, rate)


def decode(path: Path | str) -> tuple[np.ndarray, int]:
    """Read any audio or video file that ffmpeg decodes.

    Returns: float32 [channels, samples] as in the file (NaN included), and the sample rate in Hz.

    Raises:
      AudioError: the file is missing, empty, not audio, a video without sound, shorter than its
        header promises, or longer than `MAX_HOURS`; or its sample rate or number of channels is one
        that no recording has.
    """
    rate, blocks = decode_blocks(path)
    return np.concatenate(list(blocks), axis=1), rate


def decode_blocks(
    path: Path | str, start: float = 0.0, stop: float | None = None
) -> tuple[int, Iterator[np.ndarray]]:
    """Read a file, or a cut of it, block by block; see `open_audio`.

    Returns: the sample rate in Hz, and float32 blocks [channels, samples]; concatenated, they are
      the result of `decode`.

    Raises:
      AudioError: as `open_audio`.
    """
    opened = open_audio(path, start, stop)
    return opened.rate, opened.blocks


@dataclasses.dataclass(frozen=True)
class OpenAudio:
    """A track of a file, or a cut of it, that is being read."""

    rate: int
    """Sample rate in Hz."""
    channels: int
    tracks: int
    """Tracks of sound in the file."""
    is_float: bool
    """Whether samples are stored as floating point numbers, which may have any scale."""
    blocks: Iterator[np.ndarray]
    """float32 [channels, samples], in memory that does not depend on the length."""
    notes: list[str]
    """What is remarkable, one sentence each; complete when the blocks have been read."""


def open_audio(
    path: Path | str, start: float = 0.0, stop: float | None = None, track: int = 0
) -> OpenAudio:
    """Open a file, or a cut of it.

    Everything that ffmpeg plays is read: also files that were joined byte by byte, and files whose
    header states too small a size. Silence stands where timestamps leave gaps.

    Args:
      path: the file.
      start, stop: the cut in seconds, exact to the sample; None is the end of the file.
      track: which track of sound, from 0.

    Raises:
      AudioError: as `decode`, here or while the blocks are read: that a file is shorter than
        promised is known only after its last block. Or a cut beyond the end of the file.
    """
    if not 0 <= start < (math.inf if stop is None else stop) or stop == math.inf:
        raise AudioError(f"a cut from {start:g} s to {_format_end(stop)} is impossible")
    opened = open_track(Path(path), track, start, _BLOCK)
    if opened.promised > 3600 * MAX_HOURS:
        hours = opened.promised / 3600
        raise AudioError(
            f"{hours:.0f} hours by its header; up to {MAX_HOURS} can be read: "
            "cut it into several files"
        )
    return OpenAudio(
        opened.rate,
        opened.channels,
        opened.tracks,
        opened.is_float,
        _read(opened, start, stop),
        opened.notes,
    )


def _read(track: Track, start: float, stop: float | None) -> Iterator[np.ndarray]:
    """Yield the samples of a cut in blocks of about `_BLOCK_VALUES`.

    Raises AudioError at the end if there were too few.
    """
    first = round(start * track.rate)
    last = None if stop is None else round(stop * track.rate)
    position = track.first
    held = []
    values = 0
    is_broken = False
    try:
        for block in track.blocks:
            begin = max(first - position, 0)
            end = None if last is None else max(last - position, 0)
            wanted = block[:, begin:end]
            position += block.shape[1]
            _check_amount(track, position)
            if wanted.shape[1]:
                held.append(wanted)
                values += wanted.size
            if values >= _BLOCK_VALUES:
                yield np.concatenate(held, axis=1)
                held = []
                values = 0
            if last is not None and position >= last:
                break
    except DecodeError:
        is_broken = True
    if held:
        yield np.concatenate(held, axis=1)
    if last is None or position < last:
        _check_end(track, position / track.rate, start, stop, is_broken)


def _check_amount(track: Track, samples: int) -> None:
    """Raise AudioError if a file unpacks to more than a recording can."""
    if samples > 3600 * MAX_HOURS * track.rate:
        raise AudioError(f"longer than {MAX_HOURS} hours: cut it into several files")
    if samples * track.channels > _MAX_VALUES_PER_BYTE * track.bytes + _BLOCK_VALUES:
        seconds = samples // track.rate
        raise AudioError(
            f"{track.bytes} bytes that unpack to more than {seconds} s: not a recording"
        )


def _check_end(
    track: Track, seconds: float, start: float, stop: float | None, is_broken: bool
) -> None:
    """Raise AudioError if a file that was read to its end is empty, broken, or too short.

    Too short for its header, or for the cut.
    """
    if seconds < track.promised - track.tolerance - 0.5 / track.rate:
        # Enough digits to show the difference.
        digits = 1 if track.promised - seconds > 0.1 else 4
        raise AudioError(
            f"truncated: header promises {track.promised:.{digits}f} s, "
            f"{seconds:.{digits}f} s could be read"
        )
    if is_broken:
        raise AudioError(f"broken after {seconds:.1f} s")
    if not seconds:
        raise AudioError("no samples in it")
    if seconds <= start or (stop is not None and seconds < stop - _CUT_TOLERANCE):
        raise AudioError(
            f"{seconds:.1f} s long: it cannot be cut from {start:g} s to {_format_end(stop)}"
        )


def _format_end(stop: float | None) -> str:
    return "its end" if stop is None else f"{stop:g} s"
