"""Damaged, deceptive and foreign recordings, always the same ones.

Every one is made from two seconds of the bundled voice. `files` gives them by name; `nodes` puts
down what is no regular file.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import hostile_headers
import numpy as np
import soundfile

from rvc_jax.audio.reading import load
from rvc_jax.data.sources import find_bundled_sample

RATE = 16000

_BY_SOUNDFILE = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "double.wav": ("WAV", "DOUBLE"),
    "extensible.wav": ("WAVEX", "PCM_16"),
    "adpcm.wav": ("WAV", "MS_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "rf64.rf64": ("RF64", "PCM_16"),
    "w64.w64": ("W64", "PCM_16"),
    "flac.flac": ("FLAC", "PCM_16"),
    "mp3.mp3": ("MP3", None),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "aiff.aiff": ("AIFF", "PCM_16"),
    "float.aifc": ("AIFF", "FLOAT"),
    "au.au": ("AU", "PCM_16"),
    "caf.caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
}
_BY_FFMPEG = {
    "opus.opus": ("ogg", "libopus"),
    "aac.m4a": ("mp4", "aac"),
    "alac.m4a": ("mp4", "alac"),
    "adts.aac": ("adts", "aac"),
    "opus.mkv": ("matroska", "libopus"),
    "aac.mka": ("matroska", "aac"),
    "opus.webm": ("webm", "libopus"),
    "mp2.ts": ("mpegts", "mp2"),
    "wma.wma": ("asf", "wmav2"),
    "pcm.avi": ("avi", "pcm_s16le"),
    "pcm.mov": ("mov", "pcm_s16le"),
}


@functools.cache
def speech() -> np.ndarray:
    """float32 [samples] at RATE: two seconds of the bundled voice."""
    return load(find_bundled_sample("voice") / "zrtp-enroll_confirmed.flac", RATE)[
        RATE : 3 * RATE
    ]


@functools.cache
def files() -> dict[str, bytes]:
    """All the hostile files by name; every name ends as a recording's does."""
    made: dict[str, bytes] = {}
    for name, content in containers().items():
        stem, _, ending = name.rpartition(".")
        made |= {
            f"{stem} {damage}.{ending}": damaged for damage, damaged in _damaged(name, content)
        }
    made |= hostile_headers.files(containers(), speech(), RATE)
    return made | other_files() | play_lists() | _strange_samples()


@functools.cache
def containers() -> dict[str, bytes]:
    """The same speech, whole, in every container and coding."""
    made = {name: _by_soundfile(speech(), RATE, *kind) for name, kind in _BY_SOUNDFILE.items()}
    return made | {name: _by_ffmpeg(speech(), *kind) for name, kind in _BY_FFMPEG.items()}


def nodes(folder: Path) -> None:
    """Puts into a folder what has a recording's name and is no regular file. Nothing of it is a
    recording."""
    (folder / "folder.wav").mkdir()
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "there.wav").symlink_to("back.wav")
    (folder / "back.wav").symlink_to("there.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "terminal.wav").symlink_to("/dev/tty")
    (folder / "itself").symlink_to(".")
    os.mkfifo(folder / "pipe.wav")
    (folder / "pipe link.wav").symlink_to("pipe.wav")


def mutated(content: bytes, number: int) -> bytes:
    """One of endlessly many versions of a file: bits flipped, bytes overwritten, parts cut out or
    doubled."""
    draw = np.random.default_rng([zlib.crc32(content), number])
    changed = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        # Half of the damage goes to the header, where it does more.
        place = int(
            draw.integers(0, len(changed) if draw.random() < 0.5 else min(len(changed), 200))
        )
        match int(draw.integers(0, 5)):
            case 0 | 1:
                changed[place] ^= 1 << int(draw.integers(0, 8))
            case 2:
                value = draw.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"]
                )
                changed[place : place + 4] = value
            case 3:
                del changed[place : place + int(draw.integers(1, 100))]
            case 4:
                changed[place:place] = changed[place : place + int(draw.integers(1, 100))]
    return bytes(changed)


def _by_soundfile(wave: np.ndarray, rate: int, format: str, subtype: str | None) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", rate, 1 if wave.ndim == 1 else wave.shape[1], subtype, format=format
    ) as file:
        file.write(wave)
    content = buffer.getvalue()
    if format == "OGG":
        return hostile_headers.with_ogg_serial(content, b"fuzz")
    peak = content.find(b"PEAK", 0, 100)  # a chunk with the time of writing
    return content if peak < 0 else content[: peak + 12] + bytes(4) + content[peak + 16 :]


def _by_ffmpeg(wave: np.ndarray, format: str, codec: str, rate: int = RATE) -> bytes:
    """Without "bitexact" there are random numbers in the file."""
    buffer = io.BytesIO()
    with av.open(
        buffer, "w", format=format, container_options={"fflags": "+bitexact"}
    ) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), "fltp", "mono")
        frame.rate = RATE
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return buffer.getvalue()


def _channels(wave: np.ndarray, count: int, format: str) -> bytes:
    """Any number of equal channels in 16 bits, in a container that only ffmpeg reads."""
    buffer = io.BytesIO()
    layout = "7.1" if count == 8 else f"{count}c"
    with av.open(
        buffer, "w", format=format, container_options={"fflags": "+bitexact"}
    ) as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout=layout)
        for start in range(0, len(wave), 1000):
            part = (wave[start : start + 1000] * 32000).astype(np.int16).repeat(count)
            frame = av.AudioFrame(format="s16", layout=layout, samples=len(part) // count)
            frame.planes[0].update(part)
            frame.rate = RATE
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _damaged(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, the file): cut short, bits flipped, overwritten, with strange bytes before
    and behind."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    size = len(content)
    for length in (5, 40, size // 8, size // 2, size - 1):
        yield f"of {length} bytes", content[:length]
    for flips, end in ((1, 100), (1, size), (30, size)):
        changed = np.frombuffer(content, np.uint8).copy()
        changed[draw.integers(0, end, flips)] ^= 1 << draw.integers(0, 8, flips, dtype=np.uint8)
        yield f"with {flips} bits flipped below {end}", changed.tobytes()
    place = int(draw.integers(size // 4, size // 2))
    yield "with a hole", content[:place] + bytes(500) + content[place + 500 :]
    yield "with ones in the header", content[:20] + b"\xff" * 20 + content[40:]
    yield "behind garbage", draw.bytes(1000) + content
    yield "before garbage", content + draw.bytes(1000)


def other_files() -> dict[str, bytes]:
    """What has a recording's ending and is something else."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo("speech.wav"), bytes(10_000_000))
    png = (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\x7f\xff\xff\xff" * 2 + b"\x08\6\0\0\0" + bytes(99)
    )
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    elf = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQ", 2, 62, 1, 0x400000, 64, 0)
        + bytes(500)
    )
    return {
        "empty.wav": b"",
        "one byte.wav": b"R",
        "zeros.wav": bytes(5000),
        "ones.mp3": b"\xff" * 5000,
        "noise.mp3": np.random.default_rng(1).bytes(20_000),
        "noise.ts": np.random.default_rng(2).bytes(20_000),
        "noise.aac": np.random.default_rng(3).bytes(20_000),
        "picture.wav": png,
        "picture.mp4": png,
        "drawing.m4a": svg,
        "bitmap.mov": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "document.flac": 9
        * b"%PDF-1.7\n1 0 obj<</OpenAction<</S/URI/URI(http://127.0.0.1:9/)>>>>endobj\n",
        "archive.wav": archive.getvalue(),
        "bomb.wav": gzip.compress(bytes(20_000_000), mtime=0),
        "bomb of bombs.mp3": gzip.compress(
            gzip.compress(bytes(20_000_000), mtime=0) * 100, mtime=0
        ),
        "page.mp3": 20
        * b"<!DOCTYPE html><html><body><audio src='http://127.0.0.1:9/a.mp3'></body></html>",
        "text.ogg": b"This is not a recording.\n" * 200,
        "one line.mkv": b"x" * 100_000,
        "program.au": elf,
        "script.wav": b"#!/bin/sh\ntouch /tmp/fuzzed\n",
        "pickle.wav": b"cos\nsystem\n(S'touch /tmp/fuzzed'\ntR.",
        "subtitles.mp4": b"1\n00:00:00,000 --> 99:00:00,000\nhello\n\n" * 50,
        "notes.mka": b"WEBVTT\n\n00:00.000 --> 99:00:00.000\nhello\n",
        "picture of letters.ts": b"\x1b[2J\x1b[31mhello\x1b[0m" * 200,
        "raw samples.wav": (speech() * 32000).astype("<i2").tobytes(),
        "teletype.aac": b"\r\n" * 2000,
    }


def play_lists() -> dict[str, bytes]:
    """Texts that make players open other places."""
    targets = (
        "file:///etc/passwd",
        "/etc/passwd",
        "http://127.0.0.1:9/a.wav",
        "good.wav",
        "concat:good.wav|good.wav",
    )
    made = {}
    for number, target in enumerate(targets):
        made |= {
            f"list {number}.wav": f"#EXTM3U\n{target}\n",
            f"stream {number}.ogg": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n"
            f"#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
            f"parts {number}.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
            f"dash {number}.m4a": '<?xml version="1.0"?>'
            '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT9S" '
            'profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>'
            '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
            f"{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        }
    made["sheet.flac"] = 'FILE "/etc/passwd" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'
    made["session.mkv"] = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    )
    made["entities.webm"] = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    )
    made["windows.wma"] = (
        '<asx version="3.0"><entry><ref href="http://127.0.0.1:9/a.wma"/></entry></asx>'
    )
    made["reference.mov"] = "RTSPtext\nrtsp://127.0.0.1:9/a\n"
    return {name: text.encode() for name, text in made.items()}


def _strange_samples() -> dict[str, bytes]:
    """Proper files of sound that no microphone gives."""
    draw = np.random.default_rng(4)
    wave = speech()
    some = wave.copy()
    some[[0, 5000, len(wave) - 1]] = np.nan
    endless = wave.copy()
    endless[::1000] = np.inf
    loud = wave.copy()
    loud[7000] = 1e38
    alternating = np.where(np.arange(len(wave)) % 2, 3.4e38, -3.4e38)
    samples = {
        "some NaN": some,
        "all NaN": np.full(len(wave), np.nan),
        "infinite": endless,
        "a peak of 1e38": loud,
        "from end to end of the scale": alternating,
        "a thousand times too loud": 1000 * wave,
        "constant": np.full(len(wave), 0.5),
        "constant beyond": np.full(len(wave), 1e30),
        "silent": np.zeros(len(wave)),
        "negative zero": -np.zeros(len(wave)),
        "clipped": np.sign(wave),
        "nearly nothing": 1e-40 * draw.standard_normal(len(wave)),
        "very quiet": 1e-6 * wave,
        "white noise": 0.3 * draw.standard_normal(len(wave)),
        "one sample": wave[:1],
        "two samples": wave[:2],
        "no sample": wave[:0],
        "a click in silence": np.eye(1, len(wave), 8000)[0],
    }
    made = {
        f"{name}.wav": _by_soundfile(np.float32(value), RATE, "WAV", "FLOAT")
        for name, value in samples.items()
    }
    made["beyond float.wav"] = _by_soundfile(np.full(len(wave), 1e300), RATE, "WAV", "DOUBLE")
    made["eight channels at 192 kHz.wav"] = _by_soundfile(
        np.repeat(wave.repeat(12)[:, None], 8, 1), 192_000, "WAV", "PCM_16"
    )
    made["one of two channels broken.wav"] = _by_soundfile(
        np.stack([wave, np.full(len(wave), np.nan, np.float32)], 1), RATE, "WAV", "FLOAT"
    )
    made["channels that cancel.wav"] = _by_soundfile(
        np.stack([wave, -wave], 1), RATE, "WAV", "PCM_16"
    )
    made["one sample.flac"] = _by_soundfile(wave[:1], RATE, "FLAC", "PCM_16")
    made["one sample.mp3"] = _by_soundfile(wave[:1], RATE, "MP3", None)
    made["eight channels.mov"] = _channels(wave, 8, "mov")
    made["eight channels.mka"] = _channels(wave, 8, "matroska")
    made["twenty-four channels.mka"] = _channels(wave, 24, "matroska")
    made["at 4 kHz.wav"] = _by_soundfile(wave[::4], 4000, "WAV", "PCM_16")
    made["at 768 kHz.wav"] = _by_soundfile(wave.repeat(48), 768_000, "WAV", "PCM_16")
    return made
