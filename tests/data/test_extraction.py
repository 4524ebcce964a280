"""Slices and features of cuts, and the cache they are in."""

import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.loudness import normalize_slice
from rvc_jax.config import PrepareConfig
from rvc_jax.data.cache import Cache
from rvc_jax.data.cut import Cut
from rvc_jax.data.extraction import (
    Extractors,
    analyze,
    load_features,
    load_recording,
    map_ahead,
)
from rvc_jax.data.prepare import prepare
from rvc_jax.data.sources import find_sources
from rvc_jax.errors import UserError
from rvc_jax.features.f0 import load_pitch_extractor

CONFIG = PrepareConfig(preset="nano").resolved()


def test_ahead_keeps_the_order_and_works_beforehand_but_not_far(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    started = []

    def work(item):
        started.append(item)
        time.sleep(0.01 * (item % 2))
        return item

    results = map_ahead(work, range(20))
    assert next(results) == 0
    time.sleep(0.1)
    assert 1 < len(started) <= 4
    assert list(results) == list(range(1, 20))


def test_features_do_not_depend_on_the_other_sources(sample_voice, tmp_path):
    cuts = find_sources(sample_voice).cuts
    together = Cache(tmp_path / "together")
    alone = Cache(tmp_path / "alone")
    analyses = list(analyze(cuts, CONFIG, together))
    for cut, of_all in zip(cuts[3:5], analyses[3:5], strict=True):
        (of_one,) = analyze([cut], CONFIG, alone)
        assert of_one == of_all
        for all_slices, one_slices in zip(
            load_features(of_all, 0, CONFIG, together),
            load_features(of_one, 0, CONFIG, alone),
            strict=True,
        ):
            for a, b in zip(all_slices, one_slices, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_cut_is_a_part_of_its_file_with_another_gain(sample_voice, tmp_path):
    path = next(sample_voice.glob("misc*"))
    cache = Cache(tmp_path)
    whole, part = analyze(
        [Cut(path, "whole", "a"), Cut(path, "part", "a", 1.0, 2.5, -6.0)], CONFIG, cache
    )
    assert part.seconds == pytest.approx(1.5, abs=1e-3)
    assert part.key != whole.key
    assert part.slices[-1].stop == pytest.approx(1.5 * 16000, abs=2)
    (beyond,) = analyze([Cut(path, "beyond", "a", 0.0, 1000.0)], CONFIG, cache)
    assert "1000" in beyond.error and beyond.slices == ()


def test_an_extractor_that_gives_nan_stops_everything(sample_voice, tmp_path, monkeypatch):
    content = Extractors.from_config(CONFIG).content
    monkeypatch.setattr(
        type(content), "__call__", lambda self, audio, lengths: np.full((16, 168, 384), np.nan)
    )
    with pytest.raises(UserError, match="whisper-tiny gives values that are not numbers"):
        list(analyze(find_sources(sample_voice).cuts, CONFIG, Cache(tmp_path)))
    heads = [path.read_bytes()[:400] for path in tmp_path.rglob("*.npy")]
    # Pitch is kept, content (float16) is not.
    assert heads
    assert not [head for head in heads if b"'<f2'" in head]


def test_a_file_that_changes_while_it_is_read_is_left_out(sample_voice, tmp_path, monkeypatch):
    path = Path(shutil.copy(sample_voice / "zrtp-check_sas.flac", tmp_path))

    def growing(*args):
        recording = load_recording(*args)
        path.write_bytes(path.read_bytes() + b"more")
        return recording

    monkeypatch.setattr("rvc_jax.data.extraction.load_recording", growing)
    (analysis,) = analyze([Cut(path, "a", "b")], CONFIG, Cache(tmp_path / "cache"))
    assert analysis.error == "it changed while it was read"
    assert not (tmp_path / "cache").exists()


def test_separated_vocals_are_kept(sample_voice, tmp_path, monkeypatch):
    from rvc_jax.data import recording

    calls = []

    def vocals(blocks, rate, scratch):
        calls.append(rate)
        return blocks

    monkeypatch.setattr(recording, "isolate_vocals", vocals)
    config = dataclasses.replace(CONFIG, separate_vocals=True)
    prepare(sample_voice, tmp_path / "1", config, cache=tmp_path / "cache")
    assert len(calls) == 6
    other = dataclasses.replace(config, f0_method="pm")
    monkeypatch.setattr(
        "rvc_jax.data.extraction.load_pitch_extractor",
        lambda name: load_pitch_extractor("swift"),
    )
    prepare(sample_voice, tmp_path / "2", other, cache=tmp_path / "cache")
    assert len(calls) == 6


def test_a_long_file_has_the_features_of_one_pass(sample_voice, tmp_path):
    """A file read block by block and kept on disk, against whole arrays in memory."""
    clips = [soundfile.read(path, dtype="float32") for path in sorted(sample_voice.iterdir())]
    rate = clips[0][1]
    wave = np.tile(np.concatenate([clip for clip, _ in clips]), 5)
    soundfile.write(tmp_path / "long.wav", wave, rate)
    assert len(wave) / rate > 150
    cache = Cache(tmp_path / "cache")
    (analysis,) = analyze([Cut(tmp_path / "long.wav", "long", "a")], CONFIG, cache)
    whole = high_pass(resample(wave, rate, 16000), 16000)
    numbers = analysis.blocks()[0][::8]
    audio = np.zeros((16, 336 * 160), np.float32)
    lengths = np.full(16, 336 * 160)
    for row, number in enumerate(numbers):
        start, stop, _ = analysis.slices[number]
        audio[row, : stop - start] = normalize_slice(whole[start:stop], CONFIG)
        lengths[row] = stop - start
    extractors = Extractors.from_config(CONFIG)
    f0 = extractors.pitch(audio, lengths)
    content = extractors.content(audio, lengths)
    in_cache = load_features(analysis, 0, CONFIG, cache)
    for row, number in enumerate(numbers):
        of_file, encoded = (part[analysis.blocks()[0].index(number)] for part in in_cache)
        np.testing.assert_allclose(of_file, f0[row, : len(of_file)], rtol=1e-3)
        encoded = encoded.astype(np.float32)
        error = np.linalg.norm(encoded - content[row, : len(encoded)]) / np.linalg.norm(encoded)
        assert error < 1e-3
