"""Audio files in; `writing`, whose names are given here too, puts them out. Nothing else of `audio`
knows files."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.audio.writing import SAVE_FORMATS, EncodingOptions, Writer, check_encoding, save
from rvc_jax.errors import UserError

__all__ = [
    "AUDIO_EXTENSIONS",
    "MAX_HOURS",
    "SAVE_FORMATS",
    "AudioError",
    "EncodingOptions",
    "Writer",
    "check_encoding",
    "decode",
    "decode_blocks",
    "find_audio",
    "load",
    "save",
]

_LIBSNDFILE_EXTENSIONS = (
    ".wav",
    ".wave",
    ".w64",
    ".rf64",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".caf",
)
_FFMPEG_EXTENSIONS = (
    ".m4a",
    ".m4b",
    ".aac",
    ".wma",
    ".amr",
    ".mp4",
    ".m4v",
    ".mkv",
    ".mka",
    ".mov",
    ".webm",
    ".avi",
    ".3gp",
    ".ts",
)
AUDIO_EXTENSIONS = frozenset(_LIBSNDFILE_EXTENSIONS + _FFMPEG_EXTENSIONS)
"""Endings of files that are taken for recordings when a folder is searched."""

MAX_HOURS = 24
"""Longest recording that is read."""

_BLOCK = 2048
_BLOCK_VALUES = 1 << 20  # samples of all channels together: eleven seconds of stereo at 48 kHz
_MIN_RATE = 4000
_MAX_RATE = 768000
_MAX_CHANNELS = 64
_MAX_VALUES_PER_BYTE = (
    4000  # FLAC packs digital silence at 700; only a file made to fill disks goes further
)
_UNKNOWN_SAMPLES = 1 << 40
_UNKNOWN_BYTES = (
    0x7FFF0000  # what programs write into a wav header while they do not know the length
)
_GUESSED_CODECS = {"ansi", "rawvideo"}  # what ffmpeg takes any .txt or .raw file for
_FFMPEG_OPTIONS = {  # a play list would make ffmpeg open other files and addresses
    "protocol_whitelist": "none",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpegts,mpeg,nut,rm,aac,ac3,eac3,amr,amrnb,"
    "amrwb,ape,dts,tta,tak,wv,mpc,mpc8,dsf,mp3,ogg,flac,wav,w64,aiff,au,caf,tty,rawvideo",
}
_DURATION = re.compile(
    r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)"
)  # Matroska's tag: "00:00:10.023000000"
_LOSSY_TOLERANCE = 0.2  # seconds that coders may add or swallow at the ends
_CUT_TOLERANCE = 0.5  # seconds that a cut may reach over the end of the file
_TAG_OPTIONS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Tags that are no text are no reason to refuse a recording; from PyAV 19 on they are none without
being told."""


class AudioError(UserError):
    """A file that gives no usable sound; the text is the reason alone, without the file's name."""


def find_audio(folder: Path) -> list[Path]:
    """All recordings in a folder and its sub-folders, sorted; hidden files and folders are left
    out.

    Links are followed; a folder that several of them lead to is searched once. Raises UserError for
    a folder that is none or that may not be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found = []
    seen = set()
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
            raise UserError(f"{current} cannot be read: {error.strerror}") from error
    return sorted(found)


def load(path: Path | str, rate: int) -> np.ndarray:
    """Read a file as mono at the given rate: float32 [samples]. Raises AudioError as `decode`
    does."""
    channels, file_rate = decode(path)
    return resample(channels.mean(axis=0), file_rate, rate)


def decode(path: Path | str) -> tuple[np.ndarray, int]:
    """Read any audio or video file that libsndfile or ffmpeg decodes.

    Returns: float32 [channels, samples] as the file has them (NaN included), and the sample rate in
    Hz.

    Raises:
      AudioError: missing, empty, not audio, a video without sound, or shorter than its header
        promises; longer than `MAX_HOURS`, or with a sample rate or number of channels that no
        recording has.
    """
    rate, blocks = decode_blocks(path)
    return np.concatenate(list(blocks), axis=1), rate


def decode_blocks(
    path: Path | str, start: float = 0.0, stop: float | None = None
) -> tuple[int, Iterator[np.ndarray]]:
    """Read a file, or a cut of it, block by block, so that its length does not matter.

    Args:
      start, stop: the cut in seconds, to the sample; None is the end of the file.

    Returns: the sample rate in Hz, and float32 blocks [channels, samples] as `decode` returns them
    in one.

    Raises:
      AudioError: as `decode`, here or when the blocks are read; the last block comes before it is
        known that the file is shorter than promised. A cut beyond the end of the file.
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
    """Seconds by its header; 0 if that does not tell."""
    tolerance: float
    """Seconds that may be missing from what is promised."""
    pieces: Iterator[np.ndarray]
    """float32 [channels, samples], short; `_DecodeError` where the decoder loses its way."""
    first: int = 0
    """Sample that the pieces begin with."""


class _DecodeError(Exception):
    """The decoder could not go on."""


def _open(path: Path, start: float) -> _Source:
    """The source of a file, which may begin later, but not after `start` seconds."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise AudioError("not a file")  # a pipe or a device would be read for ever
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            raise AudioError("empty file")
        with path.open("rb"):
            pass  # so that what the system refuses is told in its own words
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
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
            f"{hours:.0f} hours by its header; up to {MAX_HOURS} can be read: cut it into several files"
        )
    return source


def _read(source: _Source, start: float, stop: float | None) -> Iterator[np.ndarray]:
    """The samples of a cut in blocks of about `_BLOCK_VALUES`; AudioError at the end if there were
    too few."""
    first = round(start * source.rate)
    last = None if stop is None else round(stop * source.rate)
    position = source.first
    pieces = []
    held = 0
    broken = False
    try:
        for piece in source.pieces:
            wanted = piece[
                :, max(first - position, 0) : None if last is None else max(last - position, 0)
            ]
            position += piece.shape[1]
            _check_amount(source, position)
            if wanted.shape[1]:
                pieces.append(wanted)
                held += wanted.size
            if held >= _BLOCK_VALUES:
                yield np.concatenate(pieces, axis=1)
                pieces = []
                held = 0
            if last is not None and position >= last:
                break
    except _DecodeError:
        broken = True
    if pieces:
        yield np.concatenate(pieces, axis=1)
    if last is None or position < last:
        _check_end(source, position / source.rate, start, stop, broken)


def _check_amount(source: _Source, samples: int) -> None:
    if samples > 3600 * MAX_HOURS * source.rate:
        raise AudioError(f"longer than {MAX_HOURS} hours: cut it into several files")
    if samples * source.channels > _MAX_VALUES_PER_BYTE * source.bytes + _BLOCK_VALUES:
        raise AudioError(
            f"{source.bytes} bytes that unpack to more than {samples // source.rate} s: not a recording"
        )


def _check_end(
    source: _Source, seconds: float, start: float, stop: float | None, broken: bool
) -> None:
    """Raise AudioError if a file that was read to its end is empty, broken, or too short: for its
    header or a cut."""
    if seconds < source.promised - source.tolerance - 0.5 / source.rate:
        raise AudioError(
            f"truncated: header promises {source.promised:.1f} s, {seconds:.1f} s could be read"
        )
    if broken:
        raise AudioError(f"broken after {seconds:.1f} s")
    if not seconds:
        raise AudioError("no samples in it")
    if seconds <= start or (stop is not None and seconds < stop - _CUT_TOLERANCE):
        raise AudioError(
            f"{seconds:.1f} s long: it cannot be cut from {start:g} s to {_format_end(stop)}"
        )


def _format_end(stop: float | None) -> str:
    return "its end" if stop is None else f"{stop:g} s"


def _open_soundfile(path: Path, size: int, start: float) -> _Source:
    file = soundfile.SoundFile(os.fsencode(path))
    exact = file.format == "FLAC" or file.subtype.startswith(
        ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
    )
    first = 0
    if start and exact and file.seekable():
        try:
            first = file.seek(min(round(start * file.samplerate), file.frames))
        except (
            soundfile.LibsndfileError
        ):  # FLAC that ends before: reading from the beginning will tell where
            file.close()
            file = soundfile.SoundFile(os.fsencode(path))
    promised = _header_samples(file) / file.samplerate
    tolerance = 0 if exact else _LOSSY_TOLERANCE
    return _Source(
        file.samplerate,
        file.channels,
        size,
        promised,
        tolerance,
        _soundfile_pieces(file),
        first,
    )


def _soundfile_pieces(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    with file:
        try:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block.T
        except soundfile.LibsndfileError as error:
            raise _DecodeError from error


def _header_samples(file: soundfile.SoundFile) -> float:
    """Samples that the header speaks of; 0 if it does not tell.

    libsndfile replaces the size in a wav, aiff or au header by what is there, and leaves a word of
    it in its log.
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


def _open_ffmpeg(path: Path, size: int) -> _Source:
    """ffmpeg gets an open file, not a name: there are names that it takes for an address or a
    command."""
    file = _File(io.FileIO(path))
    try:
        container = av.open(file, options=_FFMPEG_OPTIONS, **_TAG_OPTIONS)
        if not container.streams.audio:
            pictures = [stream.codec_context.name for stream in container.streams.video]
            raise AudioError(
                "not audio" if set(pictures) <= _GUESSED_CODECS else "no audio stream"
            )
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError("coded in a way that ffmpeg does not know")
        if not stream.rate:
            raise AudioError("not audio")
        promised = _header_seconds(container, stream)
        # Interleaved: PyAV reads past its list of planes where a frame has eight or more.
        resampler = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        file.close()
        raise AudioError("not audio") from error
    pieces = _ffmpeg_pieces(file, container, stream, resampler)
    return _Source(
        stream.rate, stream.layout.nb_channels, size, promised, _LOSSY_TOLERANCE, pieces
    )


class _File(io.BufferedReader):
    """A file that answers a seek to an impossible place; PyAV would print the exception."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _ffmpeg_pieces(
    file: BinaryIO,
    container: av.container.InputContainer,
    stream: av.AudioStream,
    resampler: av.AudioResampler,
) -> Iterator[np.ndarray]:
    channels = None  # a damaged stream may change them on its way
    with file, container:
        try:
            for frame in container.decode(stream):
                for block in resampler.resample(frame):
                    samples = block.to_ndarray().reshape(-1, block.layout.nb_channels).T
                    channels = channels or len(samples)
                    if len(samples) != channels:
                        raise _DecodeError
                    yield samples
        except (
            av.FFmpegError,
            ValueError,
        ) as error:  # ValueError: another rate or layout from here on
            raise _DecodeError from error


def _header_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Length of the stream by its header; 0 where ffmpeg would have to guess it from the bit
    rate."""
    if tagged := _DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, tagged.groups())
        return 3600 * hours + 60 * minutes + seconds
    if stream.duration and "mp4" in container.format.name:
        return float(stream.duration * stream.time_base)
    return 0
