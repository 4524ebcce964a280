"""What the bytes of a sound file say about its length: parts, and sizes that are wrong.

Programs that crash leave sizes of zero in the headers that they meant to complete; sizes of 32 bits
wrap at 4 GiB; `cat a.wav b.wav` makes a file of two. ffmpeg believes the first size that it finds.
`find_parts` finds where a file's recordings begin and end, and which bytes to correct before ffmpeg
sees them.
"""

from __future__ import annotations

import dataclasses
import os
import struct
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

_PCM_TAGS = (1, 3)  # integers, floating point numbers
_MOST_KNOWN = 64
_MOST_PARTS = 1000
_MOST_CHUNKS = 10_000
# Programs write a size from here on into a header while they do not know the length.
_UNKNOWN_BYTES = 0x7FFF0000
_W64_GUID_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
# Fewer bytes than these behind the sound are a tag or padding of some program.
_TAG_BYTES = 1024
_FOREIGN_LEVEL = 0.35
_COMPARED_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Part:
    """One recording of a file."""

    start: int
    """First byte in the file."""
    stop: int
    """Behind the last byte."""
    patches: tuple[tuple[int, bytes], ...] = ()
    """Corrections: offset in the file, and the bytes to find there."""
    missing: float = 0.0
    """How much more sound the header promises than there is, as a share of what there is."""
    samples: int = 0
    """Samples that the header promises; 0: unknown."""
    is_pcm: bool = False
    """Whether it is a wav file of samples as they are."""
    is_cut: bool = False
    """Whether a box of an mp4 file goes beyond the end of the file, or to it."""
    left_over: int = 0
    """Bytes behind the sound that are neither sound nor anything known."""


_known_parts: dict[tuple[int, int, int, int], list[Part]] = {}
_lock = threading.Lock()


class _Chunk(NamedTuple):
    name: bytes
    start: int
    """First byte of its content."""
    size: int
    """Bytes of its content by its header."""


def find_parts(file: BinaryIO) -> list[Part]:
    """Find the recordings of a file: one, or several that were joined byte by byte.

    Only containers that ffmpeg does not read on through are taken apart. Anything unknown or
    damaged is one part without corrections, for ffmpeg to judge.

    Args:
        file: An open file; its position changes.
    """
    status = os.fstat(file.fileno())
    # Of one file many cuts may be read, and looking for joined files takes a pass over it.
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    with _lock:
        known = _known_parts.get(key)
    if known is None:
        known = _find_parts(file, status.st_size)
        with _lock:
            _known_parts[key] = known
            if len(_known_parts) > _MOST_KNOWN:
                del _known_parts[next(iter(_known_parts))]
    return known


def _find_parts(file: BinaryIO, size: int) -> list[Part]:
    parts: list[Part] = []
    start = 0
    while start < size and len(parts) < _MOST_PARTS:
        try:
            part = _find_part(file, start, size)
        except (struct.error, IndexError):  # a header that ends within one of its fields
            part = Part(start, size)
        parts.append(part)
        start = part.stop
    return parts


def _find_part(file: BinaryIO, start: int, size: int) -> Part:
    head = _read(file, start, 64)
    magic = head[:4]
    whole = Part(start, size)
    if magic in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _find_wav(file, start, size)
    if magic == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _find_aiff(file, start, size)
    if head[:16] == _W64_RIFF:
        return _find_w64(file, start, size)
    if magic == b"caff":
        return _find_caf(file, start, size)
    if magic == b".snd":
        stop = _find_again(file, start, size, b".snd\0\0\0")
        return _find_au(head, dataclasses.replace(whole, stop=stop))
    if magic == b"OggS":
        return _find_ogg(file, whole)
    if magic == b"fLaC":
        return _find_flac(file, head, whole)
    if head[4:8] == b"ftyp":
        return _find_mp4(file, start, size)
    if magic == b"FLV\1":
        return dataclasses.replace(
            whole, stop=_find_again(file, start, size, b"FLV\1", head[5:9])
        )
    if magic == b"TTA1":
        return dataclasses.replace(whole, stop=_find_again(file, start, size, head[:6]))
    mp3 = _count_mp3_samples(file, start)
    return dataclasses.replace(whole, samples=mp3) if start == 0 else whole


# --- chunks: wav, RF64, W64, AIFF, CAF


def _find_wav(file: BinaryIO, start: int, size: int) -> Part:
    def read_chunk(place: int) -> _Chunk | None:
        head = _read(file, place, 8)
        if len(head) < 8:
            return None
        name, length = struct.unpack("<4sI", head)
        return _Chunk(name, place + 8, length)

    long_size = 0
    coding = b""
    data = None
    for chunk in _walk(read_chunk, start + 12, size, align=2):
        if chunk.name == b"ds64" and chunk.size >= 24:
            long_size = struct.unpack("<Q", _read(file, chunk.start + 8, 8))[0]
        elif chunk.name == b"fmt ":
            coding = _read(file, chunk.start, 40)
        elif chunk.name == b"data":
            data = chunk
            break
    if data is None:
        return Part(start, size)
    is_long = data.size == 0xFFFFFFFF and 0 < long_size < 1 << 62
    # In a file of this name ffmpeg reads to the end with this size.
    endless = [(start, b"RIFF"), (data.start - 4, b"\xff\xff\xff\xff")]
    part = _judge(
        file,
        (start, size),
        data._replace(size=long_size) if is_long else data,
        is_unknown=not is_long and data.size >= _UNKNOWN_BYTES,
        next_chunk=read_chunk,
        starts=(b"RIFF", b"RF64", b"BW64"),
        align=2,
        sample=_wav_sample(coding),
        to_end=lambda _: endless,
    )
    return dataclasses.replace(part, is_pcm=_wav_tag(coding) in _PCM_TAGS)


def _find_aiff(file: BinaryIO, start: int, size: int) -> Part:
    def read_chunk(place: int) -> _Chunk | None:
        head = _read(file, place, 8)
        if len(head) < 8:
            return None
        name, length = struct.unpack(">4sI", head)
        return _Chunk(name, place + 8, length)

    common = b""
    data = None
    for chunk in _walk(read_chunk, start + 12, size, align=2):
        if chunk.name == b"COMM":
            common = _read(file, chunk.start, min(chunk.size, 26))
        elif chunk.name == b"SSND":
            data = chunk
            break
    if data is None:
        return Part(start, size)
    return _judge(
        file,
        (start, size),
        data,
        is_unknown=data.size >= _UNKNOWN_BYTES,
        next_chunk=read_chunk,
        starts=(b"FORM",),
        align=2,
        sample=_aiff_sample(common),
        header=8,
        to_end=lambda length: [(data.start - 4, struct.pack(">I", min(length, 0xFFFFFFFF)))],
    )


def _find_w64(file: BinaryIO, start: int, size: int) -> Part:
    def read_chunk(place: int) -> _Chunk | None:
        head = _read(file, place, 24)
        if len(head) < 24:
            return None
        length = struct.unpack("<Q", head[16:])[0]
        # The size includes the header.
        return _Chunk(head[:4] + head[4:16], place + 24, max(length - 24, 0))

    chunks = _walk(read_chunk, start + 40, size, align=8)
    coding, data = _find_data(file, chunks, (b"fmt ", 40), b"data")
    if data is None:
        return Part(start, size)
    return _judge(
        file,
        (start, size),
        data,
        is_unknown=data.size >= 1 << 62,
        next_chunk=read_chunk,
        starts=(_W64_RIFF,),
        align=8,
        sample=_wav_sample(coding),
        to_end=lambda length: [(data.start - 8, struct.pack("<Q", length + 24))],
    )


def _find_caf(file: BinaryIO, start: int, size: int) -> Part:
    def read_chunk(place: int) -> _Chunk | None:
        head = _read(file, place, 12)
        if len(head) < 12:
            return None
        name, length = struct.unpack(">4sq", head)
        if name == b"caff":
            return _Chunk(name, place + 8, 0)
        return _Chunk(name, place + 12, length if length >= 0 else 1 << 62)

    chunks = _walk(read_chunk, start + 8, size, align=1)
    description, data = _find_data(file, chunks, (b"desc", 32), b"data")
    if data is None:
        return Part(start, size)
    return _judge(
        file,
        (start, size),
        data,
        is_unknown=data.size >= 1 << 62,
        next_chunk=read_chunk,
        starts=(b"caff",),
        align=1,
        sample=_caf_sample(description),
        header=4,
        to_end=lambda length: [(data.start - 8, struct.pack(">q", length))],
    )


def _find_data(
    file: BinaryIO, chunks: Iterator[_Chunk], header: tuple[bytes, int], data: bytes
) -> tuple[bytes, _Chunk | None]:
    """Return the content of the chunk that describes the samples, and the chunk that holds them.

    header: how the first one's name begins, and how many bytes to read. data: the other's name.
    """
    name, length = header
    content = b""
    for chunk in chunks:
        if chunk.name.startswith(name):
            content = _read(file, chunk.start, length)
        elif chunk.name.startswith(data):
            return content, chunk
    return content, None


def _find_au(head: bytes, whole: Part) -> Part:
    """ffmpeg reads an au file to its end, whatever size the header states."""
    offset, declared = struct.unpack(">II", head[4:12])
    present = whole.stop - whole.start - offset
    if not declared and present > 0:
        return dataclasses.replace(whole, patches=((whole.start + 8, b"\xff" * 4),))
    if declared >= _UNKNOWN_BYTES or present <= 0 or declared <= present:
        return whole
    return dataclasses.replace(whole, missing=declared / present - 1)


def _judge(
    file: BinaryIO,
    part: tuple[int, int],
    data: _Chunk,
    is_unknown: bool,
    next_chunk: Callable[[int], _Chunk | None],
    starts: tuple[bytes, ...],
    align: int,
    sample: np.dtype | None,
    to_end: Callable[[int], list[tuple[int, bytes]]],
    header: int = 0,
) -> Part:
    """Decide where the sound of a chunk ends, from its size and from what is behind it.

    Args:
        file: The file.
        part: First byte of the recording, and the end of the file.
        data: The chunk with the sound.
        is_unknown: Whether its size stands for an unknown length.
        next_chunk: Reads the header of the chunk at a place.
        starts: Names with which another recording begins.
        align: Chunks begin at multiples of this.
        sample: How samples are stored; None where they are coded.
        to_end: Gives the corrections for a chunk of that many bytes up to the end of the file.
        header: Bytes at the start of the chunk that are not sound.
    """
    start, end = part
    present = end - data.start
    if is_unknown:
        return Part(start, end, tuple(to_end(present)))
    if data.size > present:
        sound = present - header
        return Part(start, end, missing=(data.size - present) / sound if sound > 0 else 0.0)
    behind = data.start + -(-data.size // align) * align
    following = _find_following(next_chunk, starts, behind, end, align)
    if following is not None:
        return Part(start, following)
    rest = end - data.start - data.size
    if data.size <= header and rest > 0:
        return Part(start, end, tuple(to_end(present)))
    if rest < _TAG_BYTES:
        return Part(start, end)
    if _is_foreign(file, data.start + data.size, rest, sample):
        return Part(start, end, left_over=rest)
    return Part(start, end, tuple(to_end(present)))


def _find_following(
    next_chunk: Callable[[int], _Chunk | None],
    starts: tuple[bytes, ...],
    place: int,
    end: int,
    align: int,
) -> int | None:
    """Return where the chunks behind a place end: at the file's end, or where another recording
    begins. None: what is there are not chunks."""
    for _ in range(_MOST_CHUNKS):
        if place >= end:
            return end
        chunk = next_chunk(place)
        if chunk is None:
            return None
        if chunk.name in starts:
            return place
        name = chunk.name[:4]
        if not all(32 <= letter < 127 for letter in name) or chunk.start + chunk.size > end:
            return None
        place = chunk.start + -(-chunk.size // align) * align
    return None


def _walk(
    read_chunk: Callable[[int], _Chunk | None], place: int, end: int, align: int
) -> Iterator[_Chunk]:
    for _ in range(_MOST_CHUNKS):
        chunk = read_chunk(place) if place < end else None
        if chunk is None:
            return
        yield chunk
        place = chunk.start + -(-chunk.size // align) * align


def _is_foreign(file: BinaryIO, place: int, rest: int, sample: np.dtype | None) -> bool:
    """Return whether bytes behind the sound are something else: as samples they would be loud noise
    or not finite."""
    if sample is None:
        return False
    content = _read(file, place, min(rest, _COMPARED_BYTES))
    wave = np.frombuffer(content[: len(content) // sample.itemsize * sample.itemsize], sample)
    with np.errstate(all="ignore"):
        values = wave.astype(np.float64)
        if sample.kind != "f":
            values = values / float(1 << (8 * sample.itemsize - 1))
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1e10:
            return True
        level = np.sqrt(np.mean(values**2)) if len(values) else 0.0
        roughness = np.abs(np.diff(values)).mean() / max(np.abs(values).mean(), 1e-9)
    return bool(sample.kind != "f" and level > _FOREIGN_LEVEL and roughness > 1)


def _wav_sample(coding: bytes) -> np.dtype | None:
    tag = _wav_tag(coding)
    if tag not in _PCM_TAGS:
        return None
    bits = struct.unpack("<H", coding[14:16])[0]
    return _sample_type("<", bits, is_float=tag == 3)


def _wav_tag(coding: bytes) -> int:
    """Return the number of the coding in a format chunk; 0: none."""
    if len(coding) < 16:
        return 0
    tag = struct.unpack("<H", coding[:2])[0]
    return struct.unpack("<H", coding[24:26])[0] if tag == 0xFFFE and len(coding) > 25 else tag


def _aiff_sample(common: bytes) -> np.dtype | None:
    if len(common) < 18:
        return None
    kind = common[18:22]
    bits = struct.unpack(">H", common[6:8])[0]
    is_plain = kind in (b"", b"NONE", b"twos") or common[18:] == b"" or len(common) < 22
    return _sample_type(">", bits, is_float=False) if is_plain else None


def _caf_sample(description: bytes) -> np.dtype | None:
    if len(description) < 32 or description[8:12] != b"lpcm":
        return None
    flags, _, _, _, bits = struct.unpack(">IIIII", description[12:32])
    return _sample_type("<" if flags & 2 else ">", bits, is_float=bool(flags & 1))


def _sample_type(order: str, bits: int, is_float: bool) -> np.dtype | None:
    if is_float:
        return np.dtype(f"{order}f{bits // 8}") if bits in (32, 64) else None
    return np.dtype(f"{order}i{bits // 8}") if bits in (16, 32) else None


# --- other containers


def _find_flac(file: BinaryIO, head: bytes, whole: Part) -> Part:
    samples = int.from_bytes(head[18:26]) & (1 << 36) - 1 if len(head) >= 26 else 0
    stop = _find_again(file, whole.start, whole.stop, b"fLaC", b"\0\0\x22")
    return dataclasses.replace(whole, samples=samples, stop=stop)


def _find_mp4(file: BinaryIO, start: int, size: int) -> Part:
    """Walk the boxes of an mp4 file to where another file begins, or to the end."""
    place = start
    for _ in range(_MOST_CHUNKS):
        head = _read(file, place, 16)
        if len(head) < 8:
            break
        length, name = struct.unpack(">I4s", head[:8])
        if name == b"ftyp" and place > start:
            return Part(start, place)
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if length < 8 or place + length > size:
            return Part(start, size, is_cut=True)
        place += length
    return Part(start, size)


def _find_ogg(file: BinaryIO, whole: Part) -> Part:
    """Find the next link of a chain: the first page of a stream behind pages that are not."""
    place = whole.start
    for _ in range(_MOST_CHUNKS):
        head = _read(file, place, 27 + 255)
        is_page = len(head) > 26 and head[: len(_OGG_FIRST)] == _OGG_FIRST
        if not is_page or len(head) < 27 + head[26]:
            break
        place += 27 + head[26] + sum(head[27 : 27 + head[26]])
    stop = _find_again(file, min(place, whole.stop), whole.stop, _OGG_FIRST)
    return dataclasses.replace(whole, stop=stop)


def _find_again(file: BinaryIO, start: int, size: int, mark: bytes, tail: bytes = b"") -> int:
    """Return where a header occurs behind a place, or the end of the file.

    `tail` follows one byte behind the mark.
    """
    longest = len(mark) + 1 + len(tail)
    place = start + 1
    while place < size:
        content = _read(file, place, _SEARCHED_BYTES)
        found = content.find(mark)
        while found >= 0:
            behind = found + len(mark) + 1
            # What lies across the end of these bytes is found by the next ones.
            if content[behind : behind + len(tail)] == tail:
                return place + found
            found = content.find(mark, found + 1)
        if len(content) < _SEARCHED_BYTES:
            break
        place += len(content) - longest
    return size


_MP3_SEARCH = 1 << 16
_SEARCHED_BYTES = 1 << 20
_OGG_FIRST = b"OggS\0\2"


def _count_mp3_samples(file: BinaryIO, start: int) -> int:
    """Return the samples by the Xing or VBRI header of an MP3 file; 0 if it has none."""
    place = start
    head = _read(file, place, 10)
    while len(head) == 10 and head[:3] == b"ID3":
        size = head[6] & 127
        for byte in head[7:10]:
            size = size << 7 | byte & 127
        place += 10 + size
        head = _read(file, place, 10)
    content = _read(file, place, _MP3_SEARCH)
    first = content.find(b"\xff")
    while 0 <= first < len(content) - 4:
        version = content[first + 1] >> 3 & 3
        is_layer_3 = content[first + 1] & 0xE6 == 0xE2
        if is_layer_3 and version != 1 and content[first + 2] >> 2 & 3 != 3:
            return _read_mp3_count(content[first : first + 300], version)
        first = content.find(b"\xff", first + 1)
    return 0


def _read_mp3_count(frame: bytes, version: int) -> int:
    is_mono = frame[3] >> 6 == 3
    side = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
    place = 4 + side[version == 3, is_mono]
    samples = 1152 if version == 3 else 576
    mark = frame[place : place + 4]
    if mark in (b"Xing", b"Info") and len(frame) >= place + 12 and frame[place + 7] & 1:
        count = samples * int.from_bytes(frame[place + 8 : place + 12])
        return max(count - _count_mp3_padding(frame, place), 0)
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return samples * int.from_bytes(frame[50:54])
    return 0


def _count_mp3_padding(frame: bytes, place: int) -> int:
    """Return the samples that the encoder has added, by LAME's fields behind the Xing header."""
    flags = frame[place + 7]
    place += 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    added = int.from_bytes(frame[place + 21 : place + 24])
    return (added >> 12) + (added & 0xFFF)


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
