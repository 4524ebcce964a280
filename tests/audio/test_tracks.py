"""Every container: read to its last sample, with gaps filled, or refused in one line."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import made_recordings
import numpy as np
import pytest
import soundfile
from damage import damage
from hostile_headers import with_ogg_serial
from made_recordings import CONTAINERS, RATE, make, read_plainly

from rvc_jax.audio.reading import AudioError, OpenAudio, decode, open_audio
from rvc_jax.audio.tracks import find_reason, read_header_seconds

CLOCKED = ("m4a", "mp4", "3gp", "mkv", "webm", "ts", "mp2.ts", "mpg", "flv")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 2 * RATE)).astype(np.float32) * 0.1


def read(path: Path, content: bytes) -> tuple[float, OpenAudio]:
    path.write_bytes(content)
    opened = open_audio(path)
    return sum(block.shape[1] for block in opened.blocks) / opened.rate, opened


@pytest.mark.parametrize("ending", CONTAINERS)
def test_whole_and_joined_files_are_read_to_their_end(
    tmp_path: Path, wave: np.ndarray, ending: str
) -> None:
    content = make(ending, wave)
    plain = read_plainly(content)
    assert plain is not None and plain.seconds > 1.9
    seconds, opened = read(tmp_path / "a", content)
    assert seconds == pytest.approx(plain.seconds, abs=1e-3) and not opened.notes
    assert find_reason(tmp_path / "a") is None
    if ending in ("wv", "alac.caf"):  # ffmpeg writes these headers at the end of the whole
        return
    joined, _ = read(tmp_path / "b", content + content)
    assert joined == pytest.approx(2 * plain.seconds, abs=max(plain.frame, 0.06))


@pytest.mark.parametrize("rates", [(48000, 22050), (22050, 48000), (16000, 44100)])
@pytest.mark.parametrize("ending", ["mp3", "wav", "aiff", "m4a", "flac"])
def test_joined_files_of_other_rates_and_channels(
    tmp_path: Path, ending: str, rates: tuple[int, int]
) -> None:
    first, second = (
        np.tile(np.sin(np.arange(2 * rate) * 2 * np.pi * 440 / rate) * 0.3, (channels, 1))
        for rate, channels in zip(rates, (1, 2), strict=True)
    )
    content = make(ending, first, rate=rates[0]) + make(ending, second, rate=rates[1])
    (tmp_path / "a").write_bytes(content)
    samples, rate = decode(tmp_path / "a")
    assert rate == rates[0] and len(samples) == 1
    assert samples.shape[1] / rate == pytest.approx(4, abs=0.15)
    for begin in (0.5, 2.5):  # one tone at one level in both
        part = samples[0, round(begin * rate) : round((begin + 1) * rate)]
        assert np.std(part) == pytest.approx(0.3 / 2**0.5, rel=0.08)
        strongest = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax()
        assert strongest == pytest.approx(440, abs=2)


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("second", [(48000, 1), (24000, 2)])
def test_chained_ogg(tmp_path: Path, kind: str, second: tuple[int, int]) -> None:
    links = []
    for rate, channels in ((48000, 1), second):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).normal(size=(2 * rate, channels)) * 0.1
        soundfile.write(buffer, noise, rate, format="OGG", subtype=kind)
        links.append(buffer.getvalue())
    seconds, opened = read(tmp_path / "a", links[0] + with_ogg_serial(links[1], b"next"))
    assert (opened.rate, opened.channels) == (48000, 1)
    assert seconds == pytest.approx(4, abs=0.03) and not opened.notes


@pytest.mark.parametrize("ending", CLOCKED)
@pytest.mark.parametrize("gap", [(1.0, 2.0), (0.5, 0.25), (0.0, 1.0)])
def test_gaps_and_late_starts_are_silent(
    tmp_path: Path, wave: np.ndarray, ending: str, gap: tuple[float, float]
) -> None:
    whole, _ = decode_bytes(tmp_path / "whole", make(ending, wave))
    late, rate = decode_bytes(tmp_path / "late", make(ending, wave, gap=gap))
    seconds = late.shape[1] / rate
    assert seconds == pytest.approx(whole.shape[1] / rate + gap[1], abs=0.01)
    levels = [
        np.std(late[0, place : place + 480]) for place in range(0, late.shape[1] - 480, 480)
    ]
    assert np.count_nonzero(np.array(levels) < 1e-4) * 0.01 == pytest.approx(gap[1], abs=0.08)


def decode_bytes(path: Path, content: bytes) -> tuple[np.ndarray, int]:
    path.write_bytes(content)
    return decode(path)


def at(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    place = content.index(mark) + offset
    return content[:place] + value + content[place + len(value) :]


SIZES = {
    "wav": (b"data", 4, "<I"),
    "rf64": (b"ds64", 16, "<Q"),
    "w64": (b"data", 16, "<Q"),
    "aiff": (b"SSND", 4, ">I"),
    "caf": (b"data", 4, ">q"),
    "au": (b".snd", 8, ">I"),
}


@pytest.mark.parametrize("ending", SIZES)
@pytest.mark.parametrize("size", ["zero", "small", "most"])
def test_a_size_that_was_never_completed(
    tmp_path: Path, wave: np.ndarray, ending: str, size: str
) -> None:
    mark, offset, kind = SIZES[ending]
    most = {"<I": 2**32 - 1, "<Q": 2**64 - 1, ">I": 2**32 - 1, ">q": -1}[kind]
    value = {"zero": 0, "small": 60_000, "most": most}[size]
    content = make(ending, wave)
    patched = at(content, mark, offset, struct.pack(kind, value))
    seconds, _ = read(tmp_path / "a", patched)
    assert seconds == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("ending", ["wav", "w64", "aiff", "caf"])
def test_what_is_behind_the_sound_is_not_read_as_sound(
    tmp_path: Path, wave: np.ndarray, ending: str
) -> None:
    garbage = np.random.default_rng(1).bytes(50_000)
    seconds, opened = read(tmp_path / "a", make(ending, wave) + garbage)
    assert seconds == pytest.approx(2, abs=1e-3)
    (note,) = opened.notes
    assert note.startswith("50000 bytes after 2.0 s are left over")
    chunk = b"LIST" + struct.pack("<I", 4000) + bytes(4000)
    if ending == "wav":
        seconds, opened = read(tmp_path / "a", make(ending, wave) + chunk)
        assert seconds == pytest.approx(2, abs=1e-3) and not opened.notes


def test_a_wav_beyond_4_gib(tmp_path: Path) -> None:
    """Its size of 32 bits has wrapped; a hole in the file takes no room on the disk."""
    data = 2**32 + 48_000_000
    header = b"RIFF" + struct.pack("<I", (data + 36) % 2**32) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 8, 96000, 96000 * 16, 16, 16)
    header += b"data" + struct.pack("<I", data % 2**32)
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + data)
    seconds = read_header_seconds(tmp_path / "a.wav")
    assert seconds == pytest.approx(data / 96000 / 16, abs=0.1)
    opened = open_audio(tmp_path / "a.wav", start=2820.0, stop=2821.0)
    assert sum(block.shape[1] for block in opened.blocks) == 96000


def test_tracks(tmp_path: Path, wave: np.ndarray) -> None:
    (tmp_path / "a.mkv").write_bytes(make("mkv", wave * 0, wave))
    for number, level in ((0, 0.0), (1, 0.1)):
        opened = open_audio(tmp_path / "a.mkv", track=number)
        assert opened.tracks == 2
        samples = np.concatenate(list(opened.blocks), axis=1)
        assert samples.std() == pytest.approx(level, abs=0.03)
    with pytest.raises(AudioError, match="it has no track 3: 2 of sound are in it"):
        open_audio(tmp_path / "a.mkv", track=2)


def check_damaged(path: Path, ending: str, wave: np.ndarray, count: int) -> None:
    content = make(ending, wave)
    same = 0
    for number in range(count):
        damaged = damage(content, number)
        plain = read_plainly(damaged)
        try:
            seconds, opened = read(path, damaged)
        except AudioError as error:
            assert 5 < len(str(error)) < 200 and str(error).isprintable()
            continue
        if plain is None or opened.notes:
            assert all(note.isprintable() for note in opened.notes) and seconds < 60
            continue
        # A container that states a wrong length is read on: never less than ffmpeg alone reads.
        assert seconds > plain.seconds - max(plain.frame, 0.03) - 1e-3, number
        same += abs(seconds - plain.seconds) <= max(plain.frame, 0.03) + 1e-3
    assert same


@pytest.mark.parametrize("ending", CONTAINERS)
def test_damaged_files_are_read_as_by_ffmpeg_or_refused(
    tmp_path: Path, wave: np.ndarray, ending: str
) -> None:
    check_damaged(tmp_path / "a", ending, wave, 20)


@pytest.mark.heavy
@pytest.mark.parametrize("ending", CONTAINERS)
def test_thousands_of_damaged_files(tmp_path: Path, wave: np.ndarray, ending: str) -> None:
    check_damaged(tmp_path / "a", ending, wave, 2000)


def test_every_container_is_made() -> None:
    assert len(made_recordings.CONTAINERS) > 25
