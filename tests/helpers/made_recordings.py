"""Recordings in every container that PyAV writes, and an independent reading of them."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import NamedTuple

import av
import av.error
import numpy as np

RATE = 48000

CONTAINERS = {
    "wav": ("wav", "pcm_s16le"),
    "float.wav": ("wav", "pcm_f32le"),
    "adpcm.wav": ("wav", "adpcm_ms"),
    "rf64": ("wav", "pcm_s24le"),
    "w64": ("w64", "pcm_s16le"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
    "caf": ("caf", "pcm_s16le"),
    "alac.caf": ("caf", "alac"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "libmp3lame"),
    "mp2": ("mp2", "mp2"),
    "ac3": ("ac3", "ac3"),
    "aac": ("adts", "aac"),
    "opus": ("ogg", "libopus"),
    "m4a": ("ipod", "aac"),
    "alac.m4a": ("mp4", "alac"),
    "mp4": ("mp4", "aac"),
    "mov": ("mov", "pcm_s16le"),
    "3gp": ("3gp", "aac"),
    "mkv": ("matroska", "libopus"),
    "webm": ("webm", "libopus"),
    "ts": ("mpegts", "aac"),
    "mp2.ts": ("mpegts", "mp2"),
    "mpg": ("mpeg", "mp2"),
    "avi": ("avi", "libmp3lame"),
    "flv": ("flv", "aac"),
    "wv": ("wv", "wavpack"),
    "tta": ("tta", "tta"),
}
"""Container and codec of ffmpeg, by the ending of a file's name."""


class Plain(NamedTuple):
    """What PyAV's own decoder makes of a file."""

    seconds: float
    frame: float
    """Seconds of the longest frame."""


def make(
    ending: str,
    *tracks: np.ndarray,
    rate: int = RATE,
    gap: tuple[float, float] = (0.0, 0.0),
) -> bytes:
    """Write waves [channels, samples] as tracks of a container.

    gap: (second from which on, seconds by which) frames are later than their samples.
    """
    container_name, codec = CONTAINERS[ending]
    options = {"rf64": "always"} if ending == "rf64" else {}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_name, container_options=options) as container:
        streams = []
        for wave in tracks:
            stream = container.add_stream(codec, rate=rate)
            stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(wave)]
            streams.append(stream)
        packets = [
            packet
            for stream, wave in zip(streams, tracks, strict=True)
            for packet in _encode(stream, wave, rate, gap)
        ]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return buffer.getvalue()


def _encode(
    stream: av.AudioStream, wave: np.ndarray, rate: int, gap: tuple[float, float]
) -> list[av.Packet]:
    layout = stream.layout.name
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave, np.float32), "fltp", layout)
    frame.rate = rate
    frame.pts = 0
    frame.time_base = Fraction(1, rate)
    kind = stream.codec_context.format
    resampler = av.AudioResampler(kind.name if kind else "s16", layout, rate)
    packets = []
    for part in [*resampler.resample(frame), None]:
        packets += stream.encode(part)
    for packet in packets:
        if packet.pts is not None and packet.pts * packet.time_base >= gap[0]:
            late = int(Fraction(gap[1]) / packet.time_base)
            packet.pts += late
            packet.dts += late
    return [packet for packet in packets if packet.dts is not None]


def read_plainly(content: bytes) -> Plain | None:
    """Decode the first track, without damaged packets; None where PyAV opens nothing."""
    seconds = 0.0
    longest = 0.0
    try:
        with av.open(io.BytesIO(content)) as container:
            for packet in container.demux(container.streams.audio[0]):
                try:
                    frames = packet.decode()
                except (av.error.FFmpegError, ValueError):
                    continue
                for frame in frames:
                    seconds += frame.samples / frame.rate
                    longest = max(longest, frame.samples / frame.rate)
    except (av.error.FFmpegError, ValueError, IndexError, AttributeError):
        return Plain(seconds, longest) if seconds else None
    return Plain(seconds, longest)
