"""Recordings whose headers say what cannot be: numbers of channels, rates, lengths, and sizes of
chunks."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_MANY = 2**32 - 1
_PCM = 1
_FLOAT = 3
_ADPCM = 2
_ALAW = 6
_GSM = 0x31
_MP3 = 0x55
_EXTENSIBLE = 0xFFFE
_NO_GUID = b"\x99" * 16


def files(containers: Mapping[str, bytes], speech: np.ndarray, rate: int) -> dict[str, bytes]:
    """Hostile files by name.

    Args:
      containers: whole files by the names that `hostile_audio.containers` gives them.
      speech: float32 [samples].
    """
    pcm = (speech * 32000).astype("<i2").tobytes()
    return {
        **{f"{name}.wav": content for name, content in _wav(pcm, rate).items()},
        **{f"{name}.rf64": content for name, content in _rf64(pcm, rate).items()},
        **{f"{name}.w64": content for name, content in _w64(containers["w64.w64"]).items()},
        **{f"{name}.flac": content for name, content in _flac(containers["flac.flac"]).items()},
        **{f"{name}.mp3": content for name, content in _mp3(containers["mp3.mp3"]).items()},
        **{f"{name}.aiff": content for name, content in _aiff(containers["aiff.aiff"]).items()},
        **{f"{name}.au": content for name, content in _au(containers["au.au"]).items()},
        **{f"{name}.caf": content for name, content in _caf(containers["caf.caf"]).items()},
        **{f"{name}.caf": content for name, content in _alac(containers["alac.caf"]).items()},
        **{f"{name}.ogg": content for name, content in _ogg(containers["vorbis.ogg"]).items()},
        **{f"{name}.m4a": content for name, content in _mp4(containers["aac.m4a"]).items()},
        **{
            f"{name}.mka": content
            for name, content in _matroska(containers["opus.mkv"]).items()
        },
    }


def _chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def _format(
    rate: int,
    channels: int = 1,
    bits: int = 16,
    coding: int = _PCM,
    block: int | None = None,
    rest: bytes = b"",
) -> bytes:
    block = channels * bits // 8 % 65536 if block is None else block
    return _chunk(
        b"fmt ",
        struct.pack("<HHIIHH", coding, channels, rate, rate * block % 2**32, block, bits)
        + rest,
    )


def _riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    return _chunk(name, b"WAVE" + b"".join(chunks), size)


def _wav(pcm: bytes, rate: int) -> dict[str, bytes]:
    plain = _format(rate)
    data = _chunk(b"data", pcm)
    cue_points = struct.pack("<I", _MANY) + bytes(24)
    made = {
        "no channels": _riff(_format(rate, channels=0), data),
        "65535 channels": _riff(_format(rate, channels=65535), data),
        "64 channels": _riff(_format(rate, channels=64), data),
        "1024 channels": _riff(_format(rate, channels=1024), data),
        "no block": _riff(_format(rate, block=0), data),
        "a block of one byte": _riff(_format(rate, block=1), data),
        "blocks of 65535": _riff(_format(rate, block=65535), data),
        "all zero": _riff(_chunk(b"fmt ", bytes(16)), data),
        "all ones": _riff(_chunk(b"fmt ", b"\xff" * 16), data),
        "no format": _riff(data),
        "format behind": _riff(data, plain),
        "two formats": _riff(plain, _format(48000, channels=2), data),
        "a short format": _riff(_chunk(b"fmt ", plain[8:16]), data),
        "an endless format": _riff(_chunk(b"fmt ", plain[8:], _MANY), data),
        "no data": _riff(plain),
        "data twice": _riff(plain, data, data),
        "data of odd length": _riff(plain, _chunk(b"data", pcm[:-1])),
        "a RIFF of no length": _riff(plain, data, size=0),
        "a RIFF of all length": _riff(plain, data, size=_MANY),
        "an endless list": _riff(plain, _chunk(b"LIST", b"INFOIART", _MANY), data),
        "an endless name": _riff(
            plain, _chunk(b"LIST", b"INFO" + _chunk(b"INAM", b"x" * 100, 2**31 - 1)), data
        ),
        "many cues": _riff(plain, _chunk(b"cue ", cue_points), data),
        "a cue list of no end": _riff(plain, _chunk(b"cue ", cue_points, _MANY), data),
        "a peak of NaN": _riff(
            _format(rate, bits=32, coding=_FLOAT),
            _chunk(b"PEAK", struct.pack("<IIfI", 1, 0, np.nan, _MANY)),
            _chunk(b"data", np.frombuffer(pcm, "<i2").astype("<f4").tobytes()),
        ),
        "a sampler of many loops": _riff(
            plain, _chunk(b"smpl", struct.pack("<9I", *[0] * 7, _MANY, _MANY)), data
        ),
        "a broadcast text of no end": _riff(
            plain, _chunk(b"bext", bytes(602) + b"x" * 50, 2**31), data
        ),
        "a thousand chunks": _riff(plain, _chunk(b"junk", b"") * 1000, data),
        "chunks in a circle": _riff(plain, _chunk(b"junk", b"", _MANY - 7) * 9, data),
        "bigendian": _riff(plain, data, name=b"RIFX"),
        "an unknown guid": _riff(_extensible(rate, _NO_GUID), data),
        "an extension of no end": _riff(_extensible(rate, _NO_GUID, size=65535), data),
        "all speakers": _riff(
            _extensible(rate, b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", mask=_MANY), data
        ),
        "an id3 within": _riff(
            plain, _chunk(b"id3 ", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(50)), data
        ),
    }
    for wrong in (0, 1, 3999, 768_001, 2**31 - 1, 2**31, _MANY):
        made[f"a rate of {wrong}"] = _riff(_format(wrong), data)
    for wrong in (0, 1, 7, 12, 64, 255, 65535):
        made[f"{wrong} bits"] = _riff(_format(rate, bits=wrong, block=2), data)
    for wrong in (0, 1, 7, len(pcm) + 2, 2**31 - 1, 2**31, 0x7FFFF000, _MANY - 1, _MANY):
        made[f"data of {wrong} bytes by its header"] = _riff(plain, _chunk(b"data", pcm, wrong))
    for name, coding in (
        ("adpcm", _ADPCM),
        ("gsm", _GSM),
        ("mp3", _MP3),
        ("alaw", _ALAW),
        ("unknown", 0x1234),
    ):
        for block in (0, 1, 65535):
            made[f"{name} in blocks of {block}"] = _riff(
                _format(
                    rate, bits=4, coding=coding, block=block, rest=struct.pack("<HH", 2, 65535)
                ),
                data,
            )
    made["adpcm without predictors"] = _riff(
        _format(rate, bits=4, coding=_ADPCM, block=256, rest=struct.pack("<HHH", 32, 500, 0)),
        data,
    )
    made["adpcm with 65535 predictors"] = _riff(
        _format(
            rate, bits=4, coding=_ADPCM, block=256, rest=struct.pack("<HHH", 32, 500, 65535)
        ),
        data,
    )
    return made


def _extensible(rate: int, guid: bytes, mask: int = 4, size: int = 22) -> bytes:
    return _format(rate, coding=_EXTENSIBLE, rest=struct.pack("<HHI", size, 16, mask) + guid)


def _rf64(pcm: bytes, rate: int) -> dict[str, bytes]:
    def file(
        riff: int, data: int, samples: int, table: int = 0, size: int | None = None
    ) -> bytes:
        sizes = _chunk(b"ds64", struct.pack("<QQQI", riff, data, samples, table), size)
        return _riff(
            sizes, _format(rate), _chunk(b"data", pcm, _MANY), name=b"RF64", size=_MANY
        )

    most = 2**64 - 1
    return {
        "all the bytes there are": file(most, most, most),
        "half the bytes there are": file(2**63 - 1, 2**63 - 1, 2**63 - 1),
        "no bytes": file(0, 0, 0),
        "a petabyte": file(2**50, 2**50, 2**49),
        "a table of no end": file(len(pcm) + 72, len(pcm), len(pcm) // 2, table=_MANY),
        "sizes of no end": file(len(pcm) + 72, len(pcm), len(pcm) // 2, size=_MANY),
        "no sizes": _riff(_format(rate), _chunk(b"data", pcm, _MANY), name=b"RF64", size=_MANY),
    }


def _patched(content: bytes, place: int, patch: bytes) -> bytes:
    return content[:place] + patch + content[place + len(patch) :]


def _behind(content: bytes, name: bytes, offset: int, patch: bytes) -> bytes:
    """The content with a patch at an offset from the first mention of a name."""
    return _patched(content, content.index(name) + len(name) + offset, patch)


def _w64(whole: bytes) -> dict[str, bytes]:
    return {
        f"{name} of {size}": _behind(
            whole, mark, 12, struct.pack("<Q", size)
        )  # a name is 16 bytes long
        for name, mark in (("a riff", b"riff"), ("a format", b"fmt "), ("data", b"data"))
        for size in (0, 23, 2**63 - 1, 2**63, 2**64 - 1)
    }


def _flac(whole: bytes) -> dict[str, bytes]:
    def counts(rate: int, channels: int = 1, bits: int = 16, samples: int = 32000) -> bytes:
        packed = rate << 44 | (channels - 1) << 41 | (bits - 1) << 36 | samples
        return _patched(whole, 18, packed.to_bytes(8))

    def with_block(kind: int, content: bytes, size: int | None = None) -> bytes:
        """A block of metadata behind the first."""
        block = bytes([kind]) + (len(content) if size is None else size).to_bytes(3) + content
        return whole[:4] + bytes([whole[4] & 0x7F]) + whole[5:42] + block + whole[42:]

    picture = struct.pack(
        ">II9sIIIIII", 3, 9, b"image/png", 2**32 - 1, 2**31, 2**31, 24, 0, 2**32 - 1
    )
    return {
        "2^36 samples": counts(16000, samples=2**36 - 1),
        "a day and an hour": counts(16000, samples=25 * 3600 * 16000),
        "an unknown length": counts(16000, samples=0),
        "one sample by its header": counts(16000, samples=1),
        "a rate of nothing": counts(0),
        "a rate of 2^20": counts(2**20 - 1),
        "eight channels by its header": counts(16000, channels=8),
        "32 bits by its header": counts(16000, bits=32),
        "one bit by its header": counts(16000, bits=1),
        "blocks of no size": _patched(whole, 8, bytes(4)),
        "blocks of 65535": _patched(whole, 8, b"\xff" * 4),
        "a comment of no end": with_block(4, struct.pack("<I", 2**32 - 1) + b"x" * 50),
        "comments without number": with_block(4, struct.pack("<II", 0, 2**32 - 1) + bytes(50)),
        "a picture of no end": with_block(6, picture),
        "seek points to nowhere": with_block(3, b"\xff" * 180),
        "a reserved block": with_block(127, b"x" * 50),
        "metadata of 16 MB by its header": with_block(1, b"", 2**24 - 1),
        "padding without an end": with_block(1, b"")[:42] + b"\1\0\0\0" * 5000,
    }


def _mp3(whole: bytes) -> dict[str, bytes]:
    def tagged(content: bytes, size: int | None = None, flags: int = 0) -> bytes:
        size = len(content) if size is None else size
        synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        return b"ID3\4\0" + bytes([flags]) + synchsafe + content + whole

    def frame(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">I", len(content)) + b"\0\0" + content

    xing = max(whole.find(b"Xing", 0, 300), whole.find(b"Info", 0, 300))
    claim = b"Xing" + struct.pack(">III", 3, 2**32 - 1, 2**32 - 1)
    return {
        "a tag of 256 MB by its header": tagged(b"", 2**28 - 1),
        "a tag of 2 MB": tagged(bytes(2_000_000)),
        "a tag as long as the file": tagged(b"", len(whole)),
        "tags within tags": tagged(frame(b"TIT2", tagged(b"") * 3)),
        "a title of letters that are none": tagged(
            frame(b"TIT2", b"\3\xff\xfe\xed\xa0\x80\x1b[31m")
        ),
        "a picture that is a recording": tagged(frame(b"APIC", b"\0audio/wav\0\3\0" + whole)),
        "a frame of no end": tagged(b"APIC\x7f\x7f\x7f\x7f\0\0", 10),
        "an unsynchronised tag": tagged(b"\xff\0" * 500, flags=0x80),
        "an extended tag of no end": tagged(b"\x7f\x7f\x7f\x7f" * 9, flags=0x40),
        "a thousand tags": tagged(b"")[:10] * 1000 + whole,
        "a link to a picture": tagged(frame(b"APIC", b"\0-->\0\3\0file:///etc/passwd")),
        "a claim of 2^32 frames": _patched(whole, xing, claim),
        "headers without frames": whole[:4] * 2000,
        "an APE tag of no end": whole
        + b"APETAGEX"
        + struct.pack("<IIII", 2000, 2**32 - 1, 2**32 - 1, 0)
        + bytes(8),
    }


def _aiff(whole: bytes) -> dict[str, bytes]:
    def with_rate(exponent: int, mantissa: int) -> bytes:
        """The rate is an 80-bit float."""
        return _behind(whole, b"COMM", 12, struct.pack(">HQ", exponent, mantissa))

    return {
        "a rate of infinity": with_rate(0x7FFF, 2**63),
        "a rate that is no number": with_rate(0x7FFF, 2**64 - 1),
        "a negative rate": with_rate(0xC00C, 0xFA << 56),
        "a rate of zero": with_rate(0, 0),
        "a rate of 2^300": with_rate(16383 + 300, 2**63),
        "a rate below one": with_rate(1, 2**63),
        "no channels": _behind(whole, b"COMM", 4, b"\0\0"),
        "65535 channels": _behind(whole, b"COMM", 4, b"\xff\xff"),
        "2^32 frames": _behind(whole, b"COMM", 6, b"\xff" * 4),
        "no bits": _behind(whole, b"COMM", 10, b"\0\0"),
        "65535 bits": _behind(whole, b"COMM", 10, b"\xff\xff"),
        "a common chunk of no end": _behind(whole, b"COMM", 0, b"\xff" * 4),
        "sound of no end": _behind(whole, b"SSND", 0, b"\xff" * 4),
        "sound far away": _behind(whole, b"SSND", 4, b"\x7f\xff\xff\xff"),
        "sound at a block of no end": _behind(whole, b"SSND", 8, b"\xff" * 4),
        "no length": _patched(whole, 4, bytes(4)),
    }


def _au(whole: bytes) -> dict[str, bytes]:
    fields = ("data", "bytes", "coding", "rate", "channels")
    return {
        f"{name} {value}": _patched(whole, 4 + 4 * number, struct.pack(">I", value))
        for number, name in enumerate(fields)
        for value in (0, 1, 2**31 - 1, 2**31, _MANY)
    }


def _caf(whole: bytes) -> dict[str, bytes]:
    made = {
        f"{value} {name}": _behind(
            whole, b"desc", 8 + 12 + 4 * number, struct.pack(">I", value)
        )
        for number, name in enumerate(
            ("bytes per packet", "frames per packet", "channels", "bits")
        )
        for value in (0, 65535, _MANY)
    }
    for rate in (0.0, -16000.0, float("nan"), float("inf"), 1e300, 1e-300):
        made[f"a rate of {rate}"] = _behind(whole, b"desc", 8, struct.pack(">d", rate))
    for name in (b"desc", b"data"):
        for size in (0, 2**63 - 1, -(2**63), -1, -2):
            made[f"{name.decode()} of {size}"] = _behind(
                whole, name, 0, struct.pack(">q", size)
            )
    return made


def _alac(whole: bytes) -> dict[str, bytes]:
    """The table of packets has the size of each, seven bits to a byte."""
    return {
        "a packet without end": _behind(whole, b"pakt", 8 + 24, b"\xff" * 8),
        "packets of no size": _behind(whole, b"pakt", 8 + 24, bytes(16)),
        "2^62 packets": _behind(whole, b"pakt", 8, struct.pack(">Q", 2**62)),
        "a table of 2^62": _behind(whole, b"pakt", 0, struct.pack(">Q", 2**62)),
        "2^62 frames": _behind(whole, b"pakt", 16, struct.pack(">Q", 2**62)),
        "a cookie of ones": _behind(whole, b"kuki", 8, b"\xff" * 24),
        "a cookie of zeros": _behind(whole, b"kuki", 8, bytes(24)),
    }


def _ogg(whole: bytes) -> dict[str, bytes]:
    last = whole.rindex(b"OggS")
    return {
        "a position of 2^63": _checked(
            _patched(whole, last + 6, struct.pack("<q", 2**63 - 1)), last
        ),
        "a position of minus 2^63": _checked(
            _patched(whole, last + 6, struct.pack("<q", -(2**63))), last
        ),
        "a position of minus one": _checked(
            _patched(whole, last + 6, struct.pack("<q", -1)), last
        ),
        "no channels": _checked(_behind(whole, b"\1vorbis", 4, b"\0"), 0),
        "255 channels": _checked(_behind(whole, b"\1vorbis", 4, b"\xff"), 0),
        "a rate of zero": _checked(_behind(whole, b"\1vorbis", 5, bytes(4)), 0),
        "a rate of 2^32": _checked(_behind(whole, b"\1vorbis", 5, b"\xff" * 4), 0),
        "blocks of 2^15": _checked(_behind(whole, b"\1vorbis", 21, b"\xff"), 0),
        "a comment of no end": _behind(whole, b"\3vorbis", 0, b"\xff" * 4),
        "pages of another stream": whole[:last]
        + _checked(_patched(whole[last:], 14, b"\1\2\3\4"), 0),
        "two files in one": whole + with_ogg_serial(whole, b"next"),
        "a beginning without an end": _checked(_patched(whole, 5, b"\4"), 0),
    }


def with_ogg_serial(content: bytes, serial: bytes) -> bytes:
    """An Ogg stream under another number (four bytes)."""
    page = content.find(b"OggS")
    while page >= 0:
        content = _checked(_patched(content, page + 14, serial), page)
        page = content.find(b"OggS", page + 4)
    return content


def _checked(content: bytes, page: int) -> bytes:
    """The content with the checksum that the Ogg page at a place must have."""
    segments = content[page + 26]
    end = page + 27 + segments + sum(content[page + 27 : page + 27 + segments])
    content = _patched(content, page + 22, bytes(4))
    checksum = 0
    for byte in content[page:end]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    return _patched(content, page + 22, struct.pack("<I", checksum))


def _mp4(whole: bytes) -> dict[str, bytes]:
    most = b"\xff" * 4
    nested = b""
    for _ in range(2000):
        nested = struct.pack(">I", len(nested) + 8) + b"moov" + nested
    made = {
        "a film of 2^32 moments": _behind(whole, b"mvhd", 16, most),
        "a sound of 2^32 moments": _behind(whole, b"mdhd", 16, most),
        "moments of no length": _behind(whole, b"mdhd", 12, bytes(4)),
        "moments of every length": _behind(whole, b"mdhd", 12, most),
        "2^32 samples": _behind(whole, b"stsz", 8, most),
        "samples of 2^32 bytes": _behind(whole, b"stsz", 4, most),
        "samples of one byte": _behind(whole, b"stsz", 4, b"\0\0\0\1"),
        "2^32 times": _behind(whole, b"stts", 4, most),
        "times of 2^32": _behind(whole, b"stts", 12, most),
        "2^32 chunks": _behind(whole, b"stco", 4, most),
        "chunks at no place": _behind(whole, b"stco", 8, most),
        "2^32 chunks of samples": _behind(whole, b"stsc", 4, most),
        "no samples in a chunk": _behind(whole, b"stsc", 12, bytes(4)),
        "no channels": _behind(whole, b"mp4a", 16, b"\0\0"),
        "65535 channels": _behind(whole, b"mp4a", 16, b"\xff\xff"),
        "a rate of zero": _behind(whole, b"mp4a", 24, bytes(4)),
        "a rate of 65535": _behind(whole, b"mp4a", 24, most),
        "a descriptor of no end": _behind(whole, b"esds", 5, b"\xff\xff\xff\x7f"),
        "a codec that is none": whole.replace(b"mp4a", b"none", 1),
        "boxes in boxes": nested,
        "a box within itself": whole.replace(b"trak", b"moov"),
    }
    for name in (b"ftyp", b"moov", b"mdat", b"trak", b"stsd"):
        for size in (0, 1, 7, 2**31, 2**32 - 1):
            made[f"{name.decode()} of {size}"] = _patched(
                whole, whole.index(name) - 4, struct.pack(">I", size)
            )
    return made


def _element(name: bytes, content: bytes) -> bytes:
    """Of Matroska: its size has 28 bits, after the mark of how many they are."""
    return name + (len(content) | 1 << 28).to_bytes(4) + content


def _matroska(whole: bytes) -> dict[str, bytes]:
    """Numbers are behind their ids: Duration 44 89, SamplingFrequency B5, Channels 9F,
    TimestampScale 2A D7 B1."""
    tracks = whole.index(b"\x16\x54\xae\x6b")

    def tagged(name: bytes, value: bytes) -> bytes:
        """With a tag of the first track in front of the sound; of two of one name, the last
        counts."""
        of_track = _element(b"\x63\xc0", _element(b"\x63\xc5", b"\1"))
        tag = _element(b"\x67\xc8", _element(b"\x45\xa3", name) + _element(b"\x44\x87", value))
        tags = _element(b"\x12\x54\xc3\x67", _element(b"\x73\x73", of_track + tag))
        sound = whole.index(b"\x1f\x43\xb6\x75")
        return (
            _behind(whole, b"\x18\x53\x80\x67", 0, b"\x01" + b"\xff" * 7)[:sound]
            + tags
            + whole[sound:]
        )

    def track(mark: bytes, patch: bytes) -> bytes:
        return _patched(whole, whole.index(mark, tracks) + len(mark), patch)

    durations = (
        b"99:99:99",
        b"nan:00:00",
        b"-9:00:-9",
        b"1e5:00:00",
        b"00:00:inf",
        b"::::::",
        b"\xff\xfe\xfd:0:0",
        b"soon",
        b"9" * 400 + b":0:0",
        b"9" * 5000 + b":0:0",
        b"0:0:" + b"0" * 100_000,
        b"",
        b"\0",
    )
    made = {
        f"a duration no. {number}": tagged(b"DURATION", text)
        for number, text in enumerate(durations)
    }
    made["a title in Latin-1"] = tagged(b"TITLE", b"caf\xe9")
    made["a title that steers a terminal"] = tagged(b"TITLE", b"\x1b[2J\n")
    return made | {
        "a length that is no number": _behind(
            whole, b"\x44\x89\x88", 0, struct.pack(">d", float("nan"))
        ),
        "a length without end": _behind(
            whole, b"\x44\x89\x88", 0, struct.pack(">d", float("inf"))
        ),
        "a negative length": _behind(whole, b"\x44\x89\x88", 0, struct.pack(">d", -1e9)),
        "a rate of zero": track(b"\xb5\x88", struct.pack(">d", 0.0)),
        "a rate that is no number": track(b"\xb5\x88", struct.pack(">d", float("nan"))),
        "a rate of 1e300": track(b"\xb5\x88", struct.pack(">d", 1e300)),
        "no channels": track(b"\x9f\x81", b"\0"),
        "255 channels": track(b"\x9f\x81", b"\xff"),
        "a segment of no end": _behind(whole, b"\x18\x53\x80\x67", 0, b"\x01" + b"\xff" * 7),
        "tracks of no end": _behind(whole, b"\x16\x54\xae\x6b", 0, b"\x08\xff\xff\xff\xff"),
        "a codec that is none": whole.replace(b"A_OPUS", b"A_NONE", 1),
        "a codec in the plural": whole.replace(b"A_OPUS", b"A_MPEG", 1),
    }
