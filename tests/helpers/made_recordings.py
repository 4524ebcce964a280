"""Recordings in every container that PyAV writes, and an independent reading of them."""

from __future__ import annotations

import io

import av
import av.error
import numpy as np

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
    "vorbis.ogg": ("ogg", "libvorbis"),
    "opus": ("ogg", "libopus"),
    "flac.ogg": ("ogg", "flac"),
    "m4a": ("ipod", "aac"),
    "alac.m4a": ("mp4", "alac"),
    "mp4": ("mp4", "aac"),
    "mov": ("mov", "pcm_s16le"),
    "3gp": ("3gp", "aac"),
    "opus.mkv": ("matroska", "libopus"),
    "flac.mkv": ("matroska", "flac"),
    "webm": ("webm", "libopus"),
    "ts": ("mpegts", "aac"),
    "mp2.ts": ("mpegts", "mp2"),
    "mpg": ("mpeg", "mp2"),
    "avi": ("avi", "libmp3lame"),
    "flv": ("flv", "aac"),
    "wma": ("asf", "wmav2"),
    "wv": ("wv", "wavpack"),
    "tta": ("tta", "tta"),
}
"""Container and codec of ffmpeg, by the ending of a file's name."""

RATE = 48000


def make(
    ending: str,
    wave: np.ndarray,
    rate: int = RATE,
    options: dict[str, str] | None = None,
    starts: list[tuple[int, int, float]] | None = None,
) -> bytes:
    """Write [channels, samples] into a container."""
    container_name, codec = CONTAINERS[ending]
    options = dict(options or {})
    if ending == "rf64":
        options["rf64"] = "always"
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(wave)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_name, container_options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        if codec in ("wavpack", "tta") or "s24" in codec:
            pass
        resampler = av.AudioResampler(
            stream.codec_context.format.name if stream.codec_context.format else "s16",
            layout,
            rate,
        )
        parts = starts or [(0, wave.shape[1], 0.0)]
        for first, last, _ in parts:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[:, first:last]), "fltp", layout
            )
            frame.rate = rate
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def read_plainly(content: bytes) -> tuple[float, int]:
    """Seconds and damaged packets, as PyAV decodes the first track."""
    seconds = 0.0
    bad = 0
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    seconds += frame.samples / frame.rate
            except av.error.FFmpegError:
                bad += 1
    return seconds, bad
