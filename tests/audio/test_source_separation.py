"""Vocal separation with a stand-in for the package: the left channel is its idea of the voice."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from rvc_jax.audio import source_separation
from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

RATE = 48000


class Separator:
    """The part of audio-separator's interface that is used."""

    made: ClassVar[list[Separator]] = []
    stem_rate = 44100

    def __init__(self, **options):
        self.options = options
        self.inputs = []
        self.model = None
        self.made.append(self)

    def load_model(self):
        self.model = "default"

    def separate(self, path):
        assert self.model and self.options["output_single_stem"] == "Vocals"
        mix, rate = soundfile.read(path, always_2d=True)
        self.inputs.append((Path(path), mix))
        assert np.abs(mix).max() < 0.9  # else the level of the stem is changed
        name = f"{Path(path).stem}_(Vocals)_model.wav"
        voice = resample(mix[:, 0].astype(np.float32), rate, self.stem_rate)
        soundfile.write(
            Path(self.options["output_dir"]) / name,
            np.stack([voice, voice], axis=1),
            self.stem_rate,
        )
        return [name]


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("audio_separator.separator")
    module.Separator = Separator
    monkeypatch.setenv("RVC_JAX_OFFLINE", "0")
    monkeypatch.setitem(sys.modules, "audio_separator", types.ModuleType("audio_separator"))
    monkeypatch.setitem(sys.modules, "audio_separator.separator", module)
    monkeypatch.setattr(Separator, "made", [])
    source_separation.load_separator.cache_clear()
    yield module
    source_separation.load_separator.cache_clear()


@pytest.fixture(scope="module")
def speech():
    clips = [
        load(path, RATE) for path in sorted(find_bundled_sample("voice").glob("*.flac"))[:4]
    ]
    return np.concatenate(clips)


@pytest.fixture(scope="module")
def song(speech):
    """The voice on the left alone, and louder than full scale: [2, samples]."""
    music = 0.3 * np.sin(2 * np.pi * 220 * np.arange(len(speech)) / RATE)
    return np.stack([6 * speech, music.astype(np.float32)])


def separated(wave, tmp_path, block=100000):
    blocks = [wave[:, start : start + block] for start in range(0, wave.shape[1], block)]
    result = list(source_separation.isolate_vocals(blocks, RATE, tmp_path))
    assert all(part.shape[0] == 1 for part in result) and not list(tmp_path.iterdir())
    return np.concatenate(result, axis=1)[0]


def close(result, expected):
    """Within the 16 bits of the stem and the edge of its lower rate."""
    return (
        result.shape == expected.shape
        and 20 * np.log10(np.std(result - expected) / np.std(expected)) < -40
    )


def test_the_voice_comes_back_at_its_level(package, song, tmp_path):
    assert close(separated(song, tmp_path), song[0])
    (separator,) = Separator.made
    assert not list(Path(separator.options["output_dir"]).iterdir())
    assert not separator.inputs[0][0].exists()


@pytest.mark.parametrize("block", [30000, 10**7])
def test_long_music_goes_in_segments_without_a_seam(
    package, monkeypatch, song, tmp_path, block
):
    monkeypatch.setattr(source_separation, "_SEGMENT_SECONDS", 3)
    monkeypatch.setattr(source_separation, "_OVERLAP_SECONDS", 1)
    assert close(separated(song, tmp_path, block), song[0])
    (separator,) = Separator.made  # loaded once
    lengths = [len(mix) / RATE for _, mix in separator.inputs]
    assert (
        len(lengths) > 3 and lengths[:-1] == [4.0] * (len(lengths) - 1) and 1 < lengths[-1] <= 5
    )


@pytest.mark.parametrize("channels", [1, 6])
def test_other_numbers_of_channels(package, song, tmp_path, channels):
    wave = np.repeat(song[:1], channels, axis=0)
    assert close(separated(wave, tmp_path), song[0])
    assert Separator.made[0].inputs[0][1].shape[1] == 1


@pytest.mark.parametrize("samples", [1, 100, 30000])
def test_short_and_silent_music(package, song, tmp_path, samples):
    assert separated(song[:, :samples], tmp_path).shape == (samples,)
    assert not separated(np.zeros((2, samples), np.float32), tmp_path).any()


def test_no_blocks(package, tmp_path):
    assert list(source_separation.isolate_vocals([], RATE, tmp_path)) == []


def test_without_the_package(monkeypatch, song, tmp_path):
    monkeypatch.setitem(sys.modules, "audio_separator", None)
    source_separation.load_separator.cache_clear()
    with pytest.raises(UserError, match=r'audio-separator: pip install -e "\.\[separate\]"$'):
        separated(song, tmp_path)


@pytest.mark.parametrize("failing", ["__init__", "load_model", "separate"])
@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file", "ffmpeg"), SystemExit(1), RuntimeError("a\nb")],
)
def test_failures_are_one_line(package, monkeypatch, song, tmp_path, failing, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Separator, failing, fail)
    with pytest.raises(UserError, match="^audio-separator failed: .*ffmpeg.*$"):
        separated(song, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_stem_that_is_no_sound(package, monkeypatch, song, tmp_path):
    def separate_nothing(self, path):
        (Path(self.options["output_dir"]) / "a.wav").write_bytes(b"")
        return ["a.wav"]

    monkeypatch.setattr(Separator, "separate", separate_nothing)
    with pytest.raises(UserError, match="audio-separator failed: empty file"):
        separated(song, tmp_path)
