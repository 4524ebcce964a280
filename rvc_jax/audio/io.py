"""Audio files in and out; the only place of `audio` that knows files."""

from __future__ import annotations

import io
import os
import re
import uuid
from pathlib import Path

import av
import numpy as np
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.errors import UserError

_LIBSNDFILE_EXTENSIONS = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf",
)  # fmt: skip
_FFMPEG_EXTENSIONS = (
    ".m4a", ".m4b", ".aac", ".wma", ".amr", ".mp4", ".m4v", ".mkv", ".mka", ".mov", ".webm", ".avi", ".3gp", ".ts",
)  # fmt: skip
AUDIO_EXTENSIONS = frozenset(_LIBSNDFILE_EXTENSIONS + _FFMPEG_EXTENSIONS)
"""Endings of files that are taken for recordings when a folder is searched."""

SAVE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", None),
}
"""File ending -> libsndfile's format and coding of what `save` writes."""

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BLOCK = 2048
_UNKNOWN_SAMPLES = 1 << 40
_UNKNOWN_BYTES = 0x7FFF0000  # what programs write into a wav header while they do not know the length
_GUESSED = {"ansi", "rawvideo"}  # what ffmpeg takes any .txt or .raw file for
_LOSSY_TOLERANCE = 0.2  # seconds that coders may add or swallow at the ends


class AudioError(UserError):
    """A file that gives no usable sound; the text is the reason alone, without the file's name."""


def find_audio(folder: Path) -> list[Path]:
    """All recordings in a folder and its sub-folders, sorted; hidden files and folders are left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def load(path: Path | str, rate: int) -> np.ndarray:
    """Read a file as mono at the given rate: float32 [samples]. Raises AudioError as `decode` does."""
    channels, file_rate = decode(path)
    return resample(channels.mean(axis=0), file_rate, rate)


def decode(path: Path | str) -> tuple[np.ndarray, int]:
    """Read any audio or video file that libsndfile or ffmpeg decodes.

    Returns: float32 [channels, samples] as the file has them (NaN included), and the sample rate in Hz.

    Raises:
      AudioError: missing, empty, not audio, a video without sound, or shorter than its header promises.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise AudioError("empty file")
        with path.open("rb"):
            pass  # so that what the system refuses is told in its own words
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
    try:
        with soundfile.SoundFile(path) as file:
            return _read_soundfile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless .raw
        return _read_ffmpeg(path)


def save(path: Path | str, wave: np.ndarray, rate: int) -> None:
    """Write mono sound as wav or flac (16 bit), ogg (Vorbis) or mp3, whole or not at all.

    A peak above 1 is scaled down to 0.99. MP3 knows few rates: others are resampled to the next higher one.

    Args:
      wave: [samples] float.
      rate: in Hz.

    Raises:
      UserError: unknown ending, a sound with NaN in it, or a disk that refuses the file (full, no permission).
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in SAVE_FORMATS:
        raise UserError(f"{path}: cannot write {extension or 'a file without ending'}; use {', '.join(SAVE_FORMATS)}")
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: not written, the sound contains NaN or infinite samples")
    peak = np.abs(wave).max(initial=0.0)
    wave = np.asarray(wave if peak <= 1 else wave * (0.99 / peak), np.float32)
    if extension == ".mp3" and rate not in _MP3_RATES:
        to_rate = min((r for r in _MP3_RATES if r > rate), default=_MP3_RATES[-1])
        wave, rate = resample(wave, rate, to_rate), to_rate
    temporary = path.with_name(f".{uuid.uuid4().hex}{extension}")
    try:
        temporary.write_bytes(_encode(wave, rate, *SAVE_FORMATS[extension]))
        written = soundfile.info(temporary).frames
        if written < len(wave):
            raise UserError(f"{path}: cannot be written: only {written} of {len(wave)} samples arrived")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _encode(wave: np.ndarray, rate: int, format: str, subtype: str | None) -> bytes:
    """The whole file in memory, so that it is Python that writes it: libsndfile does not tell of a full disk."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, subtype, format=format) as file:
        for start in range(0, len(wave), _BLOCK):  # libsndfile's Vorbis coder overflows its stack on long writes
            file.write(wave[start : start + _BLOCK])
    return buffer.getvalue()


def _read_soundfile(file: soundfile.SoundFile) -> tuple[np.ndarray, int]:
    blocks, broken = [], False
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
    except soundfile.LibsndfileError:  # the decoder lost its way
        broken = True
    wave = np.concatenate(blocks).T if blocks else np.zeros((file.channels, 0), np.float32)
    exact = file.format == "FLAC" or file.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW"))
    promised = _promised_samples(file) / file.samplerate
    _check_length(wave, file.samplerate, promised, 0 if exact else _LOSSY_TOLERANCE, broken)
    return wave, file.samplerate


def _promised_samples(file: soundfile.SoundFile) -> float:
    """Samples that the header speaks of; 0 if it does not tell.

    libsndfile replaces the size in a wav, aiff or au header by what is there, and leaves a word of it in its log.
    """
    corrected = re.search(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", file.extra_info)
    if corrected is None:
        return file.frames if file.frames < _UNKNOWN_SAMPLES else 0
    promised, present = map(int, corrected.groups())
    if promised >= _UNKNOWN_BYTES or not present:
        return 0
    return file.frames * promised / present


def _read_ffmpeg(path: Path) -> tuple[np.ndarray, int]:
    blocks, broken = [], False
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                pictures = [stream.codec_context.name for stream in container.streams.video]
                raise AudioError("not audio" if set(pictures) <= _GUESSED else "no audio stream")
            if not container.streams.audio[0].rate:
                raise AudioError("not audio")
            stream = container.streams.audio[0]
            rate, promised = stream.rate, _promised_seconds(container, stream)
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            try:
                for frame in container.decode(stream):
                    blocks += [block.to_ndarray() for block in resampler.resample(frame)]
            except av.FFmpegError:
                broken = True
    except (av.FFmpegError, OSError, ValueError) as error:
        raise AudioError("not audio") from error
    wave = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    _check_length(wave, rate, promised, _LOSSY_TOLERANCE, broken)
    return wave, rate


def _promised_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Length of the stream by its header; 0 where ffmpeg would have to guess it from the bit rate."""
    if "DURATION" in stream.metadata:  # Matroska: "00:00:10.023000000"
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if stream.duration and "mp4" in container.format.name:
        return float(stream.duration * stream.time_base)
    return 0


def _check_length(wave: np.ndarray, rate: int, promised: float, tolerance: float, broken: bool) -> None:
    """Raise AudioError if a wave [channels, samples] is empty, broken, or shorter than the promised seconds."""
    seconds = wave.shape[1] / rate
    if seconds < promised - tolerance - 0.5 / rate:
        raise AudioError(f"truncated: header promises {promised:.1f} s, {seconds:.1f} s could be read")
    if broken:
        raise AudioError(f"broken after {seconds:.1f} s")
    if not seconds:
        raise AudioError("no samples in it")
