"""The tracks of sound files, decoded by ffmpeg: every sample that it plays, with gaps filled.

A file is opened once and never by its name, which ffmpeg could take for an address; formats that
refer to other files are not among those that it may recognize.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
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

from rvc_jax.audio.containers import Part, find_parts
from rvc_jax.audio.timeline import Timeline
from rvc_jax.errors import UserError, describe_os_error, make_printable
from rvc_jax.storage.plain_files import open_plain

_SILENCE_BLOCK = 1 << 12
_BUFFER_BYTES = 1 << 17
_MIN_RATE = 4000
_MAX_RATE = 768000
_MAX_CHANNELS = 64
# ffmpeg takes any .txt or .raw file for these.
_GUESSED_CODECS = {"ansi", "rawvideo"}
# A play list would make ffmpeg open other files and addresses.
_OPTIONS = {
    "protocol_whitelist": "none",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpegts,mpeg,mxf,nut,rm,"
    "aac,loas,ac3,eac3,amr,amrnb,amrwb,ape,dts,dtshd,truehd,mlp,tta,tak,wv,mpc,mpc8,dsf,mp3,ogg,"
    "flac,shn,oma,qcp,xwma,wav,w64,aiff,au,caf,voc,ircam,nistsphere,pvf,iff,gsm,g729,wtv,mmf,tty,"
    "rawvideo",
}
_PCM_OPTIONS = {"max_size": "65536"}  # bytes of a packet: the default takes twice the time
_CLOCKED = {"matroska", "mov", "mpegts", "mpeg", "flv", "nut"}
"""Formats whose timestamps are those of a clock: where they leave gaps, nothing was recorded."""
_FROM_ZERO = {"matroska", "mov", "nut"}
"""Formats whose clock starts with the recording; others start at any time."""
_STREAMED = {"mpegts", "mpeg", "flv"}
"""Formats whose clock may be set anew within a file."""
_COUNTED = {"tta", "wv", "ape", "tak"}
"""Formats whose header states the length in samples."""
_EXACT = {"wav", "w64", "aiff", "au", "caf", "flac"}
"""Formats that can be entered at any sample, if the coding is one of `_EXACT_CODECS`."""
_EXACT_CODECS = re.compile(r"pcm_|flac$")
_LOSSY_TOLERANCE = 0.2  # seconds that encoders may add or remove at the ends
# Matroska's tag: "00:00:10.023000000".
_DURATION = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)")
_LONGEST_LEAD = 600.0  # seconds; a clock that starts later was not set for this recording
_MOST_DAMAGE = 0.1  # share of packets
_MOST_DAMAGE_AT_START = 1000  # packets; what gives nothing until then is not sound
_TAG_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""Tags that are not valid text must not make a recording unreadable. From 19 on, PyAV replaces them
without this option."""


class AudioError(UserError):
    """A file without usable audio; the text is the reason alone, without the file's name."""


class DecodeError(Exception):
    """The decoder could not go on."""


@dataclasses.dataclass
class Track:
    """A track that is being decoded. Its blocks can be read once."""

    rate: int
    """Samples per second."""
    channels: int
    tracks: int
    """Tracks of sound in the file."""
    is_float: bool
    """Whether samples are stored as floating point numbers, which may have any scale."""
    bytes: int
    """Size of the file."""
    first: int
    """Sample that the blocks begin with."""
    blocks: Iterator[np.ndarray] = dataclasses.field(
        repr=False, default_factory=lambda: iter([])
    )
    """float32 [channels, samples]; raises `DecodeError` where the decoder fails."""
    promised: float = 0.0
    """Seconds by the header; 0 if unknown. More may be known at the end."""
    tolerance: float = 0.0
    """Seconds that may be missing from these."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What is remarkable, one sentence each; complete when the blocks have been read."""


def open_track(path: Path, number: int = 0, start: float = 0.0, block: int = 1 << 12) -> Track:
    """Open a track of a file; its blocks begin at `start` seconds or earlier.

    Args:
        path: The file.
        number: Which track of sound, from 0.
        start: First second that is wanted.
        block: Samples of a channel that are decoded at once.

    Raises:
        AudioError: The file can't be read, is not audio, or has no such track.
    """
    file = _open_file(path)
    try:
        return _open_track(file, number, start, block)
    except BaseException:
        file.close()
        raise


def read_header_seconds(path: Path) -> float | None:
    """Return a file's length by its header, or ffmpeg's guess; 0 if unknown, None if it is no
    recording."""
    try:
        with _open_file(path) as file:
            seconds = 0.0
            for part in find_parts(file):
                with _open_part(file, part, 0).container as container:
                    seconds += (container.duration or 0) / av.time_base
            return seconds
    except AudioError:
        return None


def find_reason(path: Path) -> str | None:
    """Return why a file is not a recording; None if it is one, as far as its beginning shows.

    The ending of its name decides nothing.
    """
    try:
        track = open_track(path)
    except AudioError as error:
        return str(error)
    except UserError:
        return "not a file"
    blocks = iter(track.blocks)
    try:
        samples = 0
        for block in blocks:
            samples += block.shape[1]
            if samples > track.rate // 10:
                break
    except DecodeError:
        pass
    finally:
        getattr(blocks, "close", lambda: None)()
    return None if samples else "not audio"


def _open_file(path: Path) -> BinaryIO:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("cannot be read: Is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("not a file")  # reading a pipe or a device would never end
        if status.st_size == 0:
            raise AudioError("empty file")
        return open_plain(path)
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read: {describe_os_error(error)}") from error
    except AudioError:
        raise
    except UserError as error:
        raise AudioError(str(error).removeprefix(f"{make_printable(str(path))} ")) from error


def _open_track(file: BinaryIO, number: int, start: float, block: int) -> Track:
    parts = find_parts(file)
    opened = _open_part(file, parts[0], number)
    if opened.stream.codec_context is None:
        raise AudioError("coded in a way that ffmpeg does not know")
    if start > 0 and len(parts) == 1 and opened.is_exact:
        opened = _seek(file, parts[0], number, opened, start)
    frame = opened.peek()
    rate = frame.rate if frame else opened.stream.rate
    layout = frame.layout if frame else opened.stream.layout
    if not rate:
        raise AudioError("not audio")
    if not _MIN_RATE <= rate <= _MAX_RATE:
        raise AudioError(
            f"a sample rate of {rate} Hz; {_MIN_RATE} to {_MAX_RATE} Hz can be read"
        )
    if layout.nb_channels > _MAX_CHANNELS:
        raise AudioError(f"{layout.nb_channels} channels; up to {_MAX_CHANNELS} can be read")
    track = Track(
        rate=rate,
        channels=layout.nb_channels,
        tracks=opened.tracks,
        is_float=bool(re.match(r"pcm_f(32|64)", opened.codec)),
        bytes=os.fstat(file.fileno()).st_size,
        first=opened.first,
        promised=opened.promised(parts[0], rate),
        tolerance=0.0 if opened.is_exact else _LOSSY_TOLERANCE,
    )
    track.blocks = _read_parts(file, parts, opened, number, _Joiner(track, layout, block))
    return track


class _OpenPart:
    """A part of a file that ffmpeg has opened."""

    def __init__(
        self, container: av.container.InputContainer, content: _PartFile, number: int
    ) -> None:
        audio = [
            stream for stream in container.streams.audio if stream.codec_context is not None
        ] or list(container.streams.audio)
        if not audio:
            codecs = {stream.codec_context.name for stream in container.streams.video}
            is_guess = codecs <= _GUESSED_CODECS
            raise AudioError("not audio" if is_guess else "no audio stream")
        if number >= len(audio):
            raise AudioError(f"it has no track {number + 1}: {len(audio)} of sound are in it")
        self.container = container
        self.content = content
        self.stream = audio[number]
        self.tracks = len(audio)
        self.format = container.format.name.partition(",")[0]
        context = self.stream.codec_context
        self.codec = context.name if context is not None else ""
        self.is_exact = self.format in _EXACT and bool(_EXACT_CODECS.match(self.codec))
        self.first = 0
        self.damaged = 0
        self.packets = 0
        self.is_broken = False
        self._is_started = False
        self._frames = self._decode()
        self._peeked: list[av.AudioFrame] = []

    def peek(self) -> av.AudioFrame | None:
        """Return the first frame, without taking it."""
        if not self._peeked:
            self._peeked = list(itertools.islice(self._frames, 1))
        return self._peeked[0] if self._peeked else None

    def frames(self) -> Iterator[av.AudioFrame]:
        """Yield all frames that can be decoded."""
        while self._peeked:
            yield self._peeked.pop()
        yield from self._frames

    def timeline(self) -> Timeline | None:
        """Return how to read the timestamps; None if they only count samples."""
        if self.format not in _CLOCKED or not self.stream.time_base:
            return None
        begin = self.stream.start_time
        begin = float(begin * self.stream.time_base) if begin is not None else 0.0
        of_all = self.container.start_time
        start = of_all / av.time_base if of_all is not None else begin
        if self.format in _FROM_ZERO:
            start = 0.0
        if not 0 <= begin - start <= _LONGEST_LEAD:
            start = begin
        return Timeline(start, self.format in _STREAMED)

    def promised(self, part: Part, rate: int) -> float:
        """Return the seconds by the header; 0 where ffmpeg would have to guess."""
        if part.samples:
            return part.samples / rate
        tagged = _DURATION.fullmatch(self.stream.metadata.get("DURATION", ""))
        if tagged:
            hours, minutes, seconds = map(float, tagged.groups())
            return 3600 * hours + 60 * minutes + seconds - self._dropped_lead()
        if not self.stream.duration or not self.stream.time_base:
            return 0.0
        if (self.format == "mov" and part.is_cut) or self.format in _COUNTED:
            start = self.stream.start_time or 0
            seconds = float((start + self.stream.duration) * self.stream.time_base)
            return seconds - self._dropped_lead()
        return 0.0

    def _dropped_lead(self) -> float:
        """Seconds of the clock before the recording, which are not filled with silence."""
        begin = float((self.stream.start_time or 0) * (self.stream.time_base or 0))
        return begin if begin > _LONGEST_LEAD else 0.0

    def _decode(self) -> Iterator[av.AudioFrame]:
        try:
            for packet in self.container.demux(self.stream):
                self.packets += 1
                try:
                    frames = packet.decode()
                except (av.error.FFmpegError, ValueError):
                    self.damaged += 1
                    if self.damaged > _MOST_DAMAGE_AT_START and not self._is_started:
                        self.is_broken = True
                        return
                    continue
                for frame in frames:
                    if isinstance(frame, av.AudioFrame) and frame.samples:
                        self._is_started = True
                        yield frame
        except (av.error.FFmpegError, OSError, ValueError):
            self.is_broken = True


def _open_part(file: BinaryIO, part: Part, number: int) -> _OpenPart:
    content = _PartFile(file, part)
    try:
        container = av.open(
            content,
            "r",
            options=_OPTIONS | (_PCM_OPTIONS if part.is_pcm else {}),
            buffer_size=_BUFFER_BYTES,
            **_TAG_OPTIONS,
        )
        return _OpenPart(container, content, number)
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise AudioError("not audio") from error


def _seek(
    file: BinaryIO, part: Part, number: int, opened: _OpenPart, start: float
) -> _OpenPart:
    """Enter a file near a second; from its beginning where that is impossible."""
    time_base = opened.stream.time_base
    if not time_base:
        return opened
    wanted = int(start / time_base)
    try:
        opened.container.seek(wanted, stream=opened.stream)
        frame = opened.peek()
    except (av.error.FFmpegError, OSError, ValueError):
        frame = None
    if frame is not None and frame.pts is not None and 0 <= frame.pts <= wanted:
        opened.first = round(frame.pts * time_base * frame.rate)
        return opened
    opened.container.close()
    return _open_part(file, part, number)


class _PartFile(io.RawIOBase):
    """A part of a file as PyAV reads it, with its corrections.

    A seek to an impossible place returns -1; PyAV would print an exception.
    """

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file = file
        self._part = part
        self._place = part.start
        self.error: OSError | None = None
        """Why reading failed, which PyAV would print."""

    def read(self, size: int = -1) -> bytes:
        place = self._place
        left = self._part.stop - place
        if left <= 0:
            return b""
        try:
            self._file.seek(place)
            content = self._file.read(left if size < 0 else min(size, left))
        except OSError as error:
            self.error = error
            return b""
        self._place = place + len(content)
        for offset, patch in self._part.patches:
            if place < offset + len(patch) and offset < self._place:
                content = _patch(content, offset - place, patch)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        part = self._part
        base = {
            os.SEEK_SET: part.start,
            os.SEEK_CUR: self._place,
            os.SEEK_END: part.stop,
        }[whence]
        if not part.start <= base + offset < 1 << 62:
            return -1
        self._place = base + offset
        return self._place - part.start

    def tell(self) -> int:
        return self._place - self._part.start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _patch(content: bytes, offset: int, patch: bytes) -> bytes:
    if offset < 0:
        patch = patch[-offset:]
        offset = 0
    patch = patch[: len(content) - offset]
    return content[:offset] + patch + content[offset + len(patch) :]


def _read_parts(
    file: BinaryIO,
    parts: list[Part],
    opened: _OpenPart,
    number: int,
    joiner: _Joiner,
) -> Iterator[np.ndarray]:
    """Yield the blocks of all parts, one after another, and note what was found on the way."""
    track = joiner.track
    with file:
        for part in parts:
            begin = joiner.position if part is not parts[0] else 0
            if part is not parts[0]:
                try:
                    opened = _open_part(file, part, number)
                except AudioError:
                    left = part.stop - part.start
                    track.notes.append(_describe_left_over(left, joiner.position / track.rate))
                    break
            with opened.container:
                yield from joiner.join(opened)
            seconds = joiner.position / track.rate
            if part.missing:
                longer = (joiner.position - begin) / track.rate * part.missing
                track.promised = max(track.promised, seconds + longer)
            if part.left_over:
                track.notes.append(_describe_left_over(part.left_over, seconds))
            _note_damage(track, opened)
    if joiner.silence:
        track.notes.append(
            f"{joiner.silence / track.rate:.2f} s of silence fill the gaps of its timestamps"
        )


def _describe_left_over(count: int, seconds: float) -> str:
    return (
        f"{count} bytes after {seconds:.1f} s are left over: they are no sound of this format"
    )


def _note_damage(track: Track, opened: _OpenPart) -> None:
    """Raise DecodeError if too much of a part is damaged, AudioError if it can't be read."""
    if opened.content.error is not None:
        reason = describe_os_error(opened.content.error)
        raise AudioError(f"cannot be read: {reason}") from opened.content.error
    if opened.is_broken or opened.damaged > _MOST_DAMAGE * opened.packets:
        raise DecodeError
    if opened.damaged > 2:
        track.notes.append(f"{opened.damaged} damaged packets of it are left out")


class _Joiner:
    """Turns frames into blocks of one rate and number of channels, with silence in the gaps."""

    def __init__(self, track: Track, layout: av.AudioLayout, block: int) -> None:
        self.track = track
        self.position = track.first
        """Samples so far."""
        self.silence = 0
        """Samples of silence among them."""
        self._layout = layout
        self._block = block
        self._kind: tuple[Any, ...] = ()
        self._resampler: av.AudioResampler | None = None
        self._pending = 0.0  # seconds that the resampler holds

    def join(self, opened: _OpenPart) -> Iterator[np.ndarray]:
        """Yield float32 [channels, samples] of a part."""
        rate = self.track.rate
        timeline = opened.timeline()
        for frame in opened.frames():
            if not _MIN_RATE <= frame.rate <= _MAX_RATE:
                opened.damaged += 1
                continue
            length = frame.samples / frame.rate
            if timeline and frame.pts is not None and frame.time_base:
                time = float(frame.pts * frame.time_base)
                position = self.position / rate + self._pending
                gap = timeline.find_gap(time, length, position)
                if gap:
                    yield from self._flush()
                    yield from self._fill(round(gap * rate))
            kind = (frame.rate, frame.format.name, frame.layout.name, frame.layout.nb_channels)
            if kind != self._kind:
                yield from self._flush()
                self._kind = kind
            if self._resampler is None:
                self._resampler = self._make_resampler(frame)
            frame.pts = None  # the resampler would follow it
            self._pending += length
            yield from self._convert(frame)
        yield from self._flush()

    def _make_resampler(self, frame: av.AudioFrame) -> av.AudioResampler:
        # Between one channel and several, `_fit_channels` keeps the level; ffmpeg would not.
        is_mixed = (
            frame.layout.nb_channels != self._layout.nb_channels
            and min(frame.layout.nb_channels, self._layout.nb_channels) > 1
        )
        # Interleaved: PyAV reads past its list of planes where a frame has eight or more.
        return av.AudioResampler(
            "flt",
            self._layout if is_mixed else frame.layout,
            self.track.rate,
            frame_size=self._block,
        )

    def _convert(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        assert self._resampler is not None
        try:
            converted = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError from error
        for block in converted:
            if not block.samples:
                continue
            channels = block.layout.nb_channels
            samples = block.to_ndarray().reshape(-1, channels).T
            self.position += samples.shape[1]
            self._pending -= samples.shape[1] / self.track.rate
            yield _fit_channels(samples, self.track.channels)

    def _flush(self) -> Iterator[np.ndarray]:
        if self._resampler is not None:
            yield from self._convert(None)
        self._resampler = None
        self._pending = 0.0

    def _fill(self, samples: int) -> Iterator[np.ndarray]:
        """Yield silence, in blocks: its amount is checked before all of it exists."""
        while samples > 0:
            count = min(samples, _SILENCE_BLOCK)
            samples -= count
            self.position += count
            self.silence += count
            yield np.zeros((self.track.channels, count), np.float32)


def _fit_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """[n, samples] as [channels, samples], where one of the two numbers is 1 or both are equal."""
    if len(samples) == channels:
        return samples
    return np.repeat(samples.mean(axis=0, keepdims=True), channels, axis=0)
