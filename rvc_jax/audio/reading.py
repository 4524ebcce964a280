"""Finds and decodes audio files, within limits that hostile files cannot exceed."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.container
import av.error
import numpy as np
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.errors import UserError, describe_os_error

# fmt: off
_LIBSNDFILE_EXTENSIONS = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".mp3", ".ogg", ".oga", ".opus",
    ".aif", ".aiff", ".aifc", ".au", ".caf",
)
_FFMPEG_EXTENSIONS = (
    ".m4a", ".m4b", ".aac", ".wma", ".amr", ".mp4", ".m4v", ".mkv", ".mka", ".mov",
    ".webm", ".avi", ".3gp", ".ts",
)
# fmt: on
AUDIO_EXTENSIONS = frozenset(_LIBSNDFILE_EXTENSIONS + _FFMPEG_EXTENSIONS)
"""Files with these extensions are recordings when a folder is searched."""

MAX_HOURS = 24
"""Longest recording that is read."""

_BLOCK = 2048
_BLOCK_VALUES = 1 << 20  # samples of all channels together: eleven seconds of stereo at 48 kHz
_MIN_RATE = 4000
_MAX_RATE = 768000
_MAX_CHANNELS = 64
# FLAC packs digital silence at 700; only a file made to fill disks goes further.
_MAX_VALUES_PER_BYTE = 4000
_UNKNOWN_SAMPLES = 1 << 40
# Programs write this size into a wav header while they do not know the length.
_UNKNOWN_BYTES = 0x7FFF0000
# ffmpeg takes any .txt or .raw file for these.
_GUESSED_CODECS = {"ansi", "rawvideo"}
# A play list would make ffmpeg open other files and addresses.
_FFMPEG_OPTIONS = {
    "protocol_whitelist": "none",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpegts,mpeg,nut,rm,"
    "aac,ac3,eac3,amr,amrnb,amrwb,ape,dts,tta,tak,wv,mpc,mpc8,dsf,mp3,ogg,flac,wav,w64,aiff,au,"
    "caf,tty,rawvideo",
}
# Matroska's tag: "00:00:10.023000000".
_DURATION = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)")
_LOSSY_TOLERANCE = 0.2  # seconds that encoders may add or remove at the ends
_CUT_TOLERANCE = 0.5  # seconds that a cut may extend beyond the end of the file
_TAG_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""Tags that are not valid text must not make a recording unreadable. From 19 on, PyAV replaces them
without this option."""


class AudioError(UserError):
    """A file without usable audio; the text is the reason alone, without the file's name."""


def find_audio(folder: Path) -> list[Path]:
    """Find all recordings in a folder and its sub-folders, sorted, but for hidden ones.

    Links are followed; a folder with several links to it is searched once.

    Raises:
      UserError: it is not a folder, or may not be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found = []
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
                elif path.suffix.lower() in AUDIO_EXTENSIONS and path.is_file():
                    found.append(path)
        except OSError as error:
            raise UserError(f"{current} cannot be read: {describe_os_error(error)}") from error
    return sorted(found)


def load(path: Path | str, rate: int) -> np.ndarray:
    """Read a file as mono at the given rate: float32 [samples].

    Raises:
      AudioError: as `decode`.
    """
    channels, file_rate = decode(path)
    return resample(channels.mean(axis=0), file_rate, rate)


def decode(path: Path | str) -> tuple[np.ndarray, int]:
    """Read any audio or video file that libsndfile or ffmpeg decodes.

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
    """Read a file, or a cut of it, block by block, in memory that does not depend on its length.

    Args:
      path: the file.
      start, stop: the cut in seconds, exact to the sample; None is the end of the file.

    Returns: the sample rate in Hz, and float32 blocks [channels, samples]; concatenated, they are
      the result of `decode`.

    Raises:
      AudioError: as `decode`, here or while the blocks are read: that a file is shorter than
        promised is known only after its last block. Or a cut beyond the end of the file.
    """
    if not 0 <= start < (math.inf if stop is None else stop) or stop == math.inf:
        raise AudioError(f"a cut from {start:g} s to {_format_end(stop)} is impossible")
    source = _open(Path(path), start)
    return source.rate, _read(source, start, stop)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A file that is being decoded, by one library or the other."""

    rate: int
    channels: int
    bytes: int
    """Size of the file."""
    promised: float
    """Seconds by its header; 0 if unknown."""
    tolerance: float
    """Seconds that may be missing from these."""
    blocks: Iterator[np.ndarray]
    """float32 [channels, samples], short; raises `_DecodeError` where the decoder fails."""
    first: int = 0
    """Sample that the blocks begin with."""


class _DecodeError(Exception):
    """The decoder could not go on."""


def _open(path: Path, start: float) -> _Source:
    """Open a file; its blocks begin at `start` seconds or earlier."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise AudioError("not a file")  # reading a pipe or a device would never end
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            raise AudioError("empty file")
        # Only for the system's own words on why it may not be opened.
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioError(f"cannot be read: {describe_os_error(error)}") from error
    try:
        source = _open_soundfile(path, status.st_size, start)
    except (soundfile.LibsndfileError, TypeError, MemoryError):  # TypeError: headerless .raw
        source = _open_ffmpeg(path, status.st_size)
    if not _MIN_RATE <= source.rate <= _MAX_RATE:
        raise AudioError(
            f"a sample rate of {source.rate} Hz; {_MIN_RATE} to {_MAX_RATE} Hz can be read"
        )
    if source.channels > _MAX_CHANNELS:
        raise AudioError(f"{source.channels} channels; up to {_MAX_CHANNELS} can be read")
    if source.promised > 3600 * MAX_HOURS:
        hours = source.promised / 3600
        raise AudioError(
            f"{hours:.0f} hours by its header; up to {MAX_HOURS} can be read: "
            "cut it into several files"
        )
    return source


def _read(source: _Source, start: float, stop: float | None) -> Iterator[np.ndarray]:
    """Yield the samples of a cut in blocks of about `_BLOCK_VALUES`.

    Raises AudioError at the end if there were too few.
    """
    first = round(start * source.rate)
    last = None if stop is None else round(stop * source.rate)
    position = source.first
    held = []
    values = 0
    is_broken = False
    try:
        for block in source.blocks:
            begin = max(first - position, 0)
            end = None if last is None else max(last - position, 0)
            wanted = block[:, begin:end]
            position += block.shape[1]
            _check_amount(source, position)
            if wanted.shape[1]:
                held.append(wanted)
                values += wanted.size
            if values >= _BLOCK_VALUES:
                yield np.concatenate(held, axis=1)
                held = []
                values = 0
            if last is not None and position >= last:
                break
    except _DecodeError:
        is_broken = True
    if held:
        yield np.concatenate(held, axis=1)
    if last is None or position < last:
        _check_end(source, position / source.rate, start, stop, is_broken)


def _check_amount(source: _Source, samples: int) -> None:
    """Raise AudioError if a file unpacks to more than a recording can."""
    if samples > 3600 * MAX_HOURS * source.rate:
        raise AudioError(f"longer than {MAX_HOURS} hours: cut it into several files")
    if samples * source.channels > _MAX_VALUES_PER_BYTE * source.bytes + _BLOCK_VALUES:
        seconds = samples // source.rate
        raise AudioError(
            f"{source.bytes} bytes that unpack to more than {seconds} s: not a recording"
        )


def _check_end(
    source: _Source, seconds: float, start: float, stop: float | None, is_broken: bool
) -> None:
    """Raise AudioError if a file that was read to its end is empty, broken, or too short.

    Too short for its header, or for the cut.
    """
    if seconds < source.promised - source.tolerance - 0.5 / source.rate:
        raise AudioError(
            f"truncated: header promises {source.promised:.1f} s, {seconds:.1f} s could be read"
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


# --- libsndfile


def _open_soundfile(path: Path, size: int, start: float) -> _Source:
    file = _sound_file(path)
    is_exact = file.format == "FLAC" or file.subtype.startswith(
        ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
    )
    first = 0
    if start and is_exact and file.seekable():
        try:
            first = file.seek(min(round(start * file.samplerate), file.frames))
        except soundfile.LibsndfileError:
            # A FLAC file that ends earlier: reading from the beginning will find out where.
            file.close()
            file = _sound_file(path)
    return _Source(
        rate=file.samplerate,
        channels=file.channels,
        bytes=size,
        promised=_header_samples(file) / file.samplerate,
        tolerance=0 if is_exact else _LOSSY_TOLERANCE,
        blocks=_soundfile_blocks(file),
        first=first,
    )


def _sound_file(path: Path) -> soundfile.SoundFile:
    # Bytes, since a file's name need not be valid text; soundfile's types do not mention them.
    return soundfile.SoundFile(os.fsencode(path))  # pyright: ignore[reportArgumentType]


def _soundfile_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    with file:
        try:
            while True:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
                if not len(block):
                    break
                yield block.T
        except soundfile.LibsndfileError as error:
            raise _DecodeError from error


def _header_samples(file: soundfile.SoundFile) -> float:
    """Samples by the header; 0 if unknown.

    libsndfile replaces the size in a wav, aiff or au header by that of the file, and mentions it in
    its log.
    """
    corrected = re.search(
        r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", file.extra_info
    )
    if corrected is None:
        return file.frames if file.frames < _UNKNOWN_SAMPLES else 0
    promised, present = map(int, corrected.groups())
    if promised >= _UNKNOWN_BYTES or not present:
        return 0
    return file.frames * promised / present


# --- ffmpeg


def _open_ffmpeg(path: Path, size: int) -> _Source:
    # ffmpeg gets an open file, not a name: it would take some names for an address or a command.
    file = _SeekableFile(io.FileIO(path))
    try:
        container = av.open(file, "r", options=_FFMPEG_OPTIONS, **_TAG_OPTIONS)
        if not container.streams.audio:
            codecs = {stream.codec_context.name for stream in container.streams.video}
            is_guess = codecs <= _GUESSED_CODECS
            raise AudioError("not audio" if is_guess else "no audio stream")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError("coded in a way that ffmpeg does not know")
        if not stream.rate:
            raise AudioError("not audio")
        promised = _header_seconds(container, stream)
        # Interleaved: PyAV reads past its list of planes where a frame has eight or more.
        resampler = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        file.close()
        raise AudioError("not audio") from error
    return _Source(
        rate=stream.rate,
        channels=stream.layout.nb_channels,
        bytes=size,
        promised=promised,
        tolerance=_LOSSY_TOLERANCE,
        blocks=_ffmpeg_blocks(file, container, stream, resampler),
    )


class _SeekableFile(io.BufferedReader):
    """A file that returns -1 for a seek to an impossible place; PyAV would print the exception."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _ffmpeg_blocks(
    file: BinaryIO,
    container: av.container.InputContainer,
    stream: av.AudioStream,
    resampler: av.AudioResampler,
) -> Iterator[np.ndarray]:
    channels = None  # a damaged stream may change their number on its way
    with file, container:
        try:
            for frame in container.decode(stream):
                for block in resampler.resample(frame):
                    samples = block.to_ndarray().reshape(-1, block.layout.nb_channels).T
                    channels = channels or len(samples)
                    if len(samples) != channels:
                        raise _DecodeError
                    yield samples
        # ValueError: another rate or layout from here on.
        except (av.error.FFmpegError, ValueError) as error:
            raise _DecodeError from error


def _header_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Duration by the header; 0 where ffmpeg would have to guess it from the bit rate."""
    tagged = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tagged:
        hours, minutes, seconds = map(float, tagged.groups())
        return 3600 * hours + 60 * minutes + seconds
    if stream.duration and stream.time_base and "mp4" in container.format.name:
        return float(stream.duration * stream.time_base)
    return 0
