"""Writes audio files block by block; a file gets its name when it is complete, and not before."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import av
import av.error
import numpy as np
import soundfile

from rvc_jax.audio.blocks import Resampler
from rvc_jax.config import BitDepth
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.scratch import clear_once, make_scratch_name


class _Format(NamedTuple):
    """How a kind of file is written."""

    container: str
    """libsndfile's name of the format, or ffmpeg's if there is a bit rate."""
    codec: str = ""
    """ffmpeg's, or libsndfile's; empty: by the bit depth."""
    bit_rate: int = 0
    """Default in kbit/s per channel; 0: the format has none."""
    bit_rates: tuple[int, int] = (0, 0)
    """Lowest and highest in kbit/s, of all channels together."""
    rates: tuple[int, ...] = ()
    """Supported sample rates; empty: any, but see `high_rate_step`."""
    high_rate_step: int = 1
    """Sample rates above 65,535 Hz must be multiples of this: FLAC has 16 bits for a rate, in Hz or
    in tens of Hz (RFC 9639, section 9.1.2)."""
    depths: tuple[str, ...] = ()
    """Supported bit depths; empty: none, the format is lossy."""


# fmt: off
_AAC_RATES = (
    8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
)
# fmt: on
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
SAVE_FORMATS = {
    ".wav": _Format("WAV", depths=("16", "24", "float")),
    ".flac": _Format("FLAC", depths=("16", "24"), high_rate_step=10),
    ".ogg": _Format("OGG", "VORBIS"),
    ".mp3": _Format("mp3", "libmp3lame", 160, (16, 320), _MP3_RATES),
    ".m4a": _Format("ipod", "aac", 128, (16, 512), _AAC_RATES),
    ".aac": _Format("adts", "aac", 128, (16, 512), _AAC_RATES),
    ".opus": _Format("opus", "libopus", 96, (6, 256), _OPUS_RATES),
}
"""File extension -> how such a file is written."""

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
_SAMPLE_BYTES = {"16": 2, "24": 3, "float": 4}
_BLOCK = 2048  # libsndfile's Vorbis encoder overflows its stack on long writes
_MAX_16_BITS = 65535
_WAV_BYTES = (1 << 32) - (1 << 16)


@dataclasses.dataclass(frozen=True)
class EncodingOptions:
    """Options of an audio file beside its format."""

    rate: int = 0
    """Sample rate in Hz; 0 keeps that of the audio (or the next higher one of the format)."""
    bit_rate: int = 0
    """In kbit/s, of lossy files; 0 is the format's default."""
    bit_depth: BitDepth = "16"
    """Of wav and flac files; float is 32 bit, for wav alone."""


def check_encoding(extension: str, encoding: EncodingOptions = EncodingOptions()) -> None:
    """Check that files of this extension can be written with these options.

    Raises:
      UserError: they cannot.
    """
    kind = SAVE_FORMATS.get(extension.lower())
    if kind is None:
        raise UserError(
            f"cannot write {extension or 'a file without extension'}; "
            f"use {', '.join(SAVE_FORMATS)}"
        )
    depth = encoding.bit_depth
    if depth != "16" and depth not in kind.depths:
        able = ", ".join(name for name, other in SAVE_FORMATS.items() if depth in other.depths)
        raise UserError(f"{extension} files have no bit depth {depth}; {able} files have")
    if encoding.bit_rate and not kind.bit_rate:
        able = ", ".join(name for name, other in SAVE_FORMATS.items() if other.bit_rate)
        raise UserError(f"{extension} files have no bit rate to choose; {able} files have")
    lowest, highest = kind.bit_rates
    if encoding.bit_rate and not lowest <= encoding.bit_rate <= highest:
        raise UserError(
            f"a bit rate of {encoding.bit_rate} kbit/s is impossible in {extension} files: "
            f"{lowest} to {highest}"
        )
    if encoding.rate and kind.rates and encoding.rate not in kind.rates:
        rates = ", ".join(map(str, kind.rates))
        raise UserError(
            f"{encoding.rate} Hz is impossible in {extension} files; use one of {rates}"
        )
    supported = _supported_rate(encoding.rate, kind)
    if encoding.rate and encoding.rate != supported:
        raise UserError(
            f"{encoding.rate} Hz is impossible in {extension} files: above {_MAX_16_BITS} Hz the "
            f"rate must be a multiple of {kind.high_rate_step}, such as {supported}"
        )


class Writer:
    """Writes an audio file, into a hidden file beside it until it is complete.

    Use it as a context, or close or abort it. Memory does not depend on the duration.

    Any method may raise UserError: audio that the file cannot hold, or a disk that refuses it
    (full, no permission). Then nothing is left behind, and an older file of the name stays.
    """

    def __init__(
        self,
        path: Path | str,
        rate: int,
        channels: int = 1,
        encoding: EncodingOptions = EncodingOptions(),
    ):
        """Begin the file. With another rate than its blocks it is resampled, at best quality.

        Args:
          path: its extension, one of `SAVE_FORMATS`, determines the format.
          rate: of the blocks, in Hz.
          channels: 1 or 2.
          encoding: the options.
        """
        self._path = Path(path)
        extension = self._path.suffix.lower()
        try:
            check_encoding(extension, encoding)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        kind = SAVE_FORMATS[extension]
        self.rate = encoding.rate or _supported_rate(rate, kind)
        """Sample rate of the file in Hz."""
        self.samples = 0
        """Written so far, per channel, at the file's rate."""
        self._channels = channels
        self._extension = extension
        self._max_samples = None
        if extension == ".wav":
            self._max_samples = _WAV_BYTES // (_SAMPLE_BYTES[encoding.bit_depth] * channels)
        self._clip = encoding.bit_depth != "float"
        self._resampler = None
        if rate != self.rate:
            self._resampler = Resampler(rate, self.rate, channels)
        clear_once(self._path.parent)
        self._temporary = self._path.with_name(make_scratch_name(f"tmp{extension}"))
        with self._clean_up_on_error():
            self._sink = _Sink(self._temporary)
            make = _FfmpegEncoder if kind.bit_rate else _SoundfileEncoder
            self._encoder: _Encoder = make(self._sink, kind, self.rate, channels, encoding)

    def write(self, block: np.ndarray) -> None:
        """Add float samples [samples] or [channels, samples].

        Those beyond -1..1 are clipped, except in float files.
        """
        block = np.atleast_2d(np.asarray(block, np.float32))
        if len(block) != self._channels:
            self.abort()
            raise ValueError(f"{len(block)} channels for a file of {self._channels}")
        if not np.isfinite(block).all():
            self.abort()
            raise UserError(
                f"{self._path}: not written, the sound contains NaN or infinite samples"
            )
        if self._resampler:
            self._encode(self._resampler.push(np.ascontiguousarray(block.T)))
        else:
            self._encode(block.T)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._resampler:
            nothing = np.zeros((0, self._channels), np.float32)
            self._encode(self._resampler.push(nothing, last=True))
        with self._clean_up_on_error():
            self._encoder.close()
            self._sink.close()
            self._sink.check()
            self._check_length()
            self._temporary.replace(self._path)

    def abort(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(Exception):
            self._encoder.close()
        with contextlib.suppress(Exception):
            self._sink.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        """Return the writer."""
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Close the file, or abort it on an error."""
        if kind is None:
            self.close()
        else:
            self.abort()

    def _encode(self, block: np.ndarray) -> None:
        """block: [samples, channels] at the file's rate."""
        self.samples += len(block)
        if self._max_samples is not None and self.samples > self._max_samples:
            self.abort()
            raise UserError(
                f"{self._path}: longer than the 4 GiB that a .wav file holds; write .flac"
            )
        with self._clean_up_on_error():
            self._encoder.write(np.clip(block, -1, 1) if self._clip else block)
            self._sink.check()

    def _check_length(self) -> None:
        """Raise UserError unless a lossless file holds all samples."""
        if self._extension not in (".wav", ".flac"):
            return
        arrived = soundfile.info(self._temporary).frames
        if arrived != self.samples:
            raise UserError(
                f"{self._path}: cannot be written: {arrived} of {self.samples} samples arrived"
            )

    @contextlib.contextmanager
    def _clean_up_on_error(self) -> Iterator[None]:
        """Abort on any error; a refusal of the system becomes a UserError."""
        try:
            yield
        except BaseException as error:
            self.abort()
            refusals = (OSError, av.error.FFmpegError, soundfile.LibsndfileError)
            if isinstance(error, refusals):
                reason = describe_os_error(error)
                raise UserError(f"{self._path}: cannot be written: {reason}") from error
            raise


def save(
    path: Path | str,
    wave: np.ndarray,
    rate: int,
    encoding: EncodingOptions = EncodingOptions(),
) -> None:
    """Write audio in the format of the file's extension (`SAVE_FORMATS`), completely or not at all.

    A peak above 1 is scaled down to 0.99. Formats that support few rates get the next higher one.

    Args:
      path: the file.
      wave: [samples] or [channels, samples] float.
      rate: in Hz.
      encoding: the options.

    Raises:
      UserError: unknown extension, NaN in the audio, or a disk that refuses the file (full, no
        permission).
    """
    peak = np.abs(wave).max(initial=0.0)
    with Writer(path, rate, len(np.atleast_2d(wave)), encoding) as writer:
        is_too_loud = peak > 1 and not np.isinf(peak)
        writer.write(wave * (0.99 / peak) if is_too_loud else wave)


class _Sink(io.FileIO):
    """The file under an encoder written in C.

    Errors are kept for `check`, since the encoder would print or ignore them.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, unless there was an error."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        try:
            while self._error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return count

    def check(self) -> None:
        """Raise the OSError that was kept, if there was one."""
        if self._error is not None:
            raise self._error


class _Encoder(Protocol):
    """Encodes blocks [samples, channels] into a file."""

    def write(self, block: np.ndarray) -> None: ...

    def close(self) -> None: ...


class _SoundfileEncoder:
    """Encodes libsndfile's formats."""

    def __init__(
        self, sink: _Sink, kind: _Format, rate: int, channels: int, encoding: EncodingOptions
    ):
        subtype = kind.codec or _SUBTYPES[encoding.bit_depth]
        self._file = soundfile.SoundFile(
            sink, "w", rate, channels, subtype, format=kind.container
        )

    def write(self, block: np.ndarray) -> None:
        for start in range(0, len(block), _BLOCK):
            self._file.write(block[start : start + _BLOCK])

    def close(self) -> None:
        self._file.close()


class _FfmpegEncoder:
    """Encodes ffmpeg's lossy formats, with a bit rate."""

    def __init__(
        self, sink: _Sink, kind: _Format, rate: int, channels: int, encoding: EncodingOptions
    ):
        self._container: Any = av.open(sink, "w", format=kind.container)
        self._layout = "mono" if channels == 1 else "stereo"
        # PyAV types the stream as any kind, though the codec makes it an audio stream.
        self._stream: Any = self._container.add_stream(
            kind.codec, rate=rate, layout=self._layout
        )
        if kind.codec == "libmp3lame":
            # mpg123, which libsndfile reads with, loses frames that borrow bits from others.
            self._stream.options = {"reservoir": "0"}
        bit_rate = encoding.bit_rate or kind.bit_rate * channels
        self._stream.bit_rate = 1000 * bit_rate
        self._rate = rate
        self._samples = 0
        self._gain = np.float32(1)
        if kind.codec == "libmp3lame":
            self._gain = np.float32(1 / _measure_mp3_scale(rate, bit_rate))

    def write(self, block: np.ndarray) -> None:
        if not len(block):
            return
        interleaved = np.ascontiguousarray(block * self._gain, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._samples
        self._samples += len(block)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._container is None:
            return
        container = self._container
        self._container = None  # closing twice must do nothing
        container.mux(self._stream.encode(None))
        container.close()


@functools.lru_cache
def _measure_mp3_scale(rate: int, bit_rate: int) -> float:
    """Measure the factor by which LAME makes mp3 files quieter: 0.95 at most bit rates.

    Its presets leave headroom for players that clip, by bit rate and sample rate; libavcodec has no
    option for it. Half a second of a sine is encoded and decoded. The input is float and is scaled
    before anything is rounded, so the reciprocal as a gain does not clip.
    """
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate).astype(np.float32)
    encoder = av.CodecContext.create("libmp3lame", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = rate
    encoder.layout = "mono"
    encoder.format = "fltp"
    encoder.bit_rate = 1000 * bit_rate
    encoder.time_base = Fraction(1, rate)
    encoder.open()
    frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = cast("Any", av.CodecContext.create("mp3float", "r"))
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    middle = slice(rate // 4, rate // 2 - rate // 16)
    power = np.square(decoded[middle], dtype=np.float64).mean()
    return float(np.sqrt(power / np.square(tone[middle], dtype=np.float64).mean()))


def _supported_rate(rate: int, kind: _Format) -> int:
    """The rate itself, or the next higher one of the format."""
    if kind.rates:
        return min((other for other in kind.rates if other >= rate), default=kind.rates[-1])
    step = kind.high_rate_step if rate > _MAX_16_BITS else 1
    return -(-rate // step) * step
