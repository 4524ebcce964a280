"""Sound files written block by block: a file has its name when it is whole, and not before."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import numpy as np
import soundfile

from rvc_jax.audio.blocks import Resampler
from rvc_jax.config import BitDepth
from rvc_jax.errors import UserError


class _Format(NamedTuple):
    """How a kind of file is made."""

    container: str
    """libsndfile's name of the format, or ffmpeg's where there is a bit rate."""
    codec: str = ""
    """ffmpeg's, or libsndfile's; none: by the bit depth."""
    bit_rate: int = 0
    """In kbit/s per channel if none is asked for; 0: the format knows none."""
    bit_rates: tuple[int, int] = (0, 0)
    """Least and most in kbit/s, of all channels."""
    rates: tuple[int, ...] = ()
    """Sample rates that it knows; empty: any."""
    depths: tuple[str, ...] = ()
    """Bit depths that it knows; empty: none, as it is lossy."""


_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
SAVE_FORMATS = {
    ".wav": _Format("WAV", depths=("16", "24", "float")),
    ".flac": _Format("FLAC", depths=("16", "24")),
    ".ogg": _Format("OGG", "VORBIS"),
    ".mp3": _Format("mp3", "libmp3lame", 160, (16, 320), _MP3_RATES),
    ".m4a": _Format("ipod", "aac", 128, (16, 512), _AAC_RATES),
    ".aac": _Format("adts", "aac", 128, (16, 512), _AAC_RATES),
    ".opus": _Format("opus", "libopus", 96, (6, 256), _OPUS_RATES),
}
"""File ending -> how such a file is written."""

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
_SAMPLE_BYTES = {"16": 2, "24": 3, "float": 4}
_BLOCK = 2048  # libsndfile's Vorbis coder overflows its stack on long writes
_WAV_BYTES = (1 << 32) - (1 << 16)


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """What can be chosen about a sound file beside its kind."""

    rate: int = 0
    """Sample rate in Hz; 0 keeps that of the sound (or the next higher one that the kind of file
    knows)."""
    bit_rate: int = 0
    """In kbit/s, of lossy files; 0 is the kind's usual one."""
    bit_depth: BitDepth = "16"
    """Of wav and flac files; float is 32 bit, of wav alone."""


def check_encoding(ending: str, coding: EncodingOptions = EncodingOptions()) -> None:
    """Raises UserError for a file ending that can't be written, or a choice that such files don't
    have."""
    kind = SAVE_FORMATS.get(ending.lower())
    if kind is None:
        raise UserError(
            f"cannot write {ending or 'a file without ending'}; use {', '.join(SAVE_FORMATS)}"
        )
    if coding.bit_depth != "16" and coding.bit_depth not in kind.depths:
        able = ", ".join(
            name for name, other in SAVE_FORMATS.items() if coding.bit_depth in other.depths
        )
        raise UserError(
            f"{ending} files have no bit depth {coding.bit_depth}; {able} files have"
        )
    if coding.bit_rate and not kind.bit_rate:
        able = ", ".join(name for name, other in SAVE_FORMATS.items() if other.bit_rate)
        raise UserError(f"{ending} files have no bit rate to choose; {able} files have")
    least, most = kind.bit_rates
    if coding.bit_rate and not least <= coding.bit_rate <= most:
        raise UserError(
            f"a bit rate of {coding.bit_rate} kbit/s is impossible in {ending} files: {least} to {most}"
        )
    if coding.rate and kind.rates and coding.rate not in kind.rates:
        rates = ", ".join(map(str, kind.rates))
        raise UserError(f"{coding.rate} Hz is impossible in {ending} files; use one of {rates}")


class Writer:
    """A sound file that is being written, in a hidden file beside it until it is whole. Use it as a
    context, or close or abort it; the memory it takes does not depend on the length.

    Any method may raise UserError: what the file can't hold, or a disk that refuses it (full, no
    permission). Then nothing is left behind, and what was there under the name before stays.
    """

    def __init__(
        self,
        path: Path | str,
        rate: int,
        channels: int = 1,
        coding: EncodingOptions = EncodingOptions(),
    ):
        """path: its ending, one of `SAVE_FORMATS`, says what is written. rate: in Hz, of the
        blocks. channels: 1 or 2.

        A file of another rate than its blocks is resampled, with soxr at its best quality.
        """
        self._path = Path(path)
        ending = self._path.suffix.lower()
        try:
            check_encoding(ending, coding)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        kind = SAVE_FORMATS[ending]
        self.rate = coding.rate or _supported_rate(rate, kind.rates)
        """Of the file, in Hz."""
        self.samples = 0
        """Written so far, per channel, at the file's rate."""
        self._channels = channels
        self._ending = ending
        self._most = (
            _WAV_BYTES // (_SAMPLE_BYTES[coding.bit_depth] * channels)
            if ending == ".wav"
            else None
        )
        self._clip = coding.bit_depth != "float"
        self._resampler = Resampler(rate, self.rate, channels) if rate != self.rate else None
        self._temporary = self._path.with_name(f".{uuid.uuid4().hex}{ending}")
        with self._telling():
            self._sink = _Sink(self._temporary)
            make = _FfmpegEncoder if kind.bit_rate else _SoundfileEncoder
            self._coder: _Encoder = make(self._sink, kind, self.rate, channels, coding)

    def write(self, block: np.ndarray) -> None:
        """Add float samples [samples] or [channels, samples]; those beyond -1..1 are clipped, but
        in float files."""
        block = np.atleast_2d(np.asarray(block, np.float32))
        if len(block) != self._channels:
            self.abort()
            raise ValueError(f"{len(block)} channels for a file of {self._channels}")
        if not np.isfinite(block).all():
            self.abort()
            raise UserError(
                f"{self._path}: not written, the sound contains NaN or infinite samples"
            )
        self._put(
            self._resampler.push(np.ascontiguousarray(block.T)) if self._resampler else block.T
        )

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._resampler:
            self._put(
                self._resampler.push(np.zeros((0, self._channels), np.float32), last=True)
            )
        with self._telling():
            self._coder.close()
            self._sink.close()
            self._sink.check()
            if (
                self._ending in (".wav", ".flac")
                and (there := soundfile.info(self._temporary).frames) != self.samples
            ):
                raise UserError(
                    f"{self._path}: cannot be written: {there} of {self.samples} samples arrived"
                )
            os.replace(self._temporary, self._path)

    def abort(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(Exception):
            self._coder.close()
        with contextlib.suppress(Exception):
            self._sink.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.close() if kind is None else self.abort()

    def _put(self, block: np.ndarray) -> None:
        """block: [samples, channels] at the file's rate."""
        self.samples += len(block)
        if self._most is not None and self.samples > self._most:
            self.abort()
            raise UserError(
                f"{self._path}: longer than the 4 GiB that a .wav file holds; write .flac"
            )
        with self._telling():
            self._coder.write(np.clip(block, -1, 1) if self._clip else block)
            self._sink.check()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What goes wrong inside leaves nothing behind, and what the system refuses is the user's
        to mend."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, (OSError, av.FFmpegError, soundfile.LibsndfileError)):
                reason = getattr(error, "strerror", None) or str(error)
                raise UserError(f"{self._path}: cannot be written: {reason}") from error
            raise


def save(
    path: Path | str, wave: np.ndarray, rate: int, coding: EncodingOptions = EncodingOptions()
) -> None:
    """Write sound as the ending of the file says (`SAVE_FORMATS`), whole or not at all.

    A peak above 1 is scaled down to 0.99. Formats that know few rates get the next higher one.

    Args:
      wave: [samples] or [channels, samples] float.
      rate: in Hz.

    Raises:
      UserError: unknown ending, a sound with NaN in it, or a disk that refuses the file (full, no
          permission).
    """
    peak = np.abs(wave).max(initial=0.0)
    with Writer(path, rate, len(np.atleast_2d(wave)), coding) as writer:
        writer.write(wave if not peak > 1 or np.isinf(peak) else wave * (0.99 / peak))


class _Sink(io.FileIO):
    """The file under a coder written in C: what goes wrong is kept, as the coder would print it or
    pass it over."""

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data).cast("B")
        count = len(rest)
        try:
            while self._error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return count

    def check(self) -> None:
        """Raises the OSError that was kept."""
        if self._error is not None:
            raise self._error


class _Encoder(Protocol):
    """Turns blocks [samples, channels] into the bytes of a file."""

    def write(self, block: np.ndarray) -> None: ...

    def close(self) -> None: ...


class _SoundfileEncoder:
    """libsndfile's formats."""

    def __init__(
        self, sink: _Sink, kind: _Format, rate: int, channels: int, coding: EncodingOptions
    ):
        subtype = kind.codec or _SUBTYPES[coding.bit_depth]
        self._file = soundfile.SoundFile(
            sink, "w", rate, channels, subtype, format=kind.container
        )

    def write(self, block: np.ndarray) -> None:
        for start in range(0, len(block), _BLOCK):
            self._file.write(block[start : start + _BLOCK])

    def close(self) -> None:
        self._file.close()


class _FfmpegEncoder:
    """ffmpeg's lossy formats, with a bit rate."""

    def __init__(
        self, sink: _Sink, kind: _Format, rate: int, channels: int, coding: EncodingOptions
    ):
        self._container = av.open(sink, "w", format=kind.container)
        self._layout = "mono" if channels == 1 else "stereo"
        self._stream = self._container.add_stream(kind.codec, rate=rate, layout=self._layout)
        if (
            kind.codec == "libmp3lame"
        ):  # mpg123, which libsndfile reads with, loses frames that borrow from others
            self._stream.options = {"reservoir": "0"}
        self._stream.bit_rate = 1000 * (coding.bit_rate or kind.bit_rate * channels)
        self._rate = rate
        self._samples = 0

    def write(self, block: np.ndarray) -> None:
        if len(block):
            interleaved = np.ascontiguousarray(block).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self._layout)
            frame.sample_rate = self._rate
            frame.time_base = Fraction(1, self._rate)
            frame.pts = self._samples
            self._samples += len(block)
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._container is not None:
            container = self._container
            self._container = None
            container.mux(self._stream.encode(None))
            container.close()


def _supported_rate(rate: int, rates: tuple[int, ...]) -> int:
    """The rate, or the next higher one that there is."""
    return (
        rate
        if not rates or rate in rates
        else min((r for r in rates if r > rate), default=rates[-1])
    )
