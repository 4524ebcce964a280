"""data/base: from packages to recordings and clips."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data.base.card import Row, describe
from data.base.make import CLIPS_PER_RECORDING, hash_listing, join_clips, make_recordings
from data.base.packages import (
    fetch_files,
    list_package_members,
    read_package_member,
    read_package_members,
)
from data.base.recipe import Package, Recipe, read_recipe
from data.base.recordings import PAUSE, decode, trim_silence, write_recordings
from data.base.synthesize import find_fault, plan_clip, plan_clips, write_clip
from data.base.texts import read_phrases

RATE = 16000


def tone(seconds: float, hertz: float = 220.0, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav(wave: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV")
    return file.getvalue()


def write_archives(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    wheel = folder / "one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    ball = folder / "two-1.0.tgz"
    with tarfile.open(ball, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return [wheel, ball]


def test_reads_wheels_and_tarballs(tmp_path: Path) -> None:
    contents = {"b/two.txt": b"2", "a/one.txt": b"1"}
    for path in write_archives(tmp_path, contents):
        assert list_package_members(path) == ["a/one.txt", "b/two.txt"]
        assert read_package_member(path, "b/two.txt") == b"2"
        assert read_package_members(path, set(contents)) == contents
        with pytest.raises(KeyError, match="has no file c"):
            read_package_member(path, "c")


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = write_archives(tmp_path, {"a": b"1"})[0]
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    package = Package("one", "pypi", "1.0", path.name, right)
    fetch_files([package], tmp_path)
    with pytest.raises(ValueError, match=f"has the SHA-256 {right}, not 00"):
        fetch_files([dataclasses.replace(package, sha256="0" * 64)], tmp_path)


def test_decodes_g722() -> None:
    wave = tone(1.0)
    content = io.BytesIO()
    with av.open(content, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(
            (wave * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        frame.time_base = Fraction(1, RATE)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    decoded, rate = decode(content.getvalue(), ".g722")
    assert rate == RATE
    assert abs(len(decoded) - RATE) < RATE // 50
    # The codec delays by 22 samples.
    best = max(np.corrcoef(decoded[k : k + 12000], wave[:12000])[0, 1] for k in range(40))
    assert best > 0.99


def test_silence_is_cut_but_for_a_margin() -> None:
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE)
    wave = np.concatenate([quiet, tone(0.5), quiet])
    kept = trim_silence(wave, RATE)
    assert len(kept) / RATE == pytest.approx(0.7, abs=0.025)
    assert len(trim_silence(quiet, RATE)) == 0
    assert len(trim_silence(np.zeros(10), RATE)) == 0


def test_clips_are_joined(tmp_path: Path) -> None:
    clips = [(tone(1.0, 200 + 20 * k), RATE) for k in range(5)]
    clips.insert(2, (tone(0.1), RATE))  # too short
    counts = write_recordings(clips, tmp_path / "speaker" / "a", seconds_per_recording=3.0)
    assert counts == {"files": 5, "seconds": pytest.approx(5.0), "left_out": 1}
    first, second = sorted((tmp_path / "speaker").iterdir())
    assert (first.name, second.name) == ("a-00.flac", "a-01.flac")
    assert soundfile.info(first).duration == pytest.approx(3 * (1 + PAUSE))
    joined, _ = soundfile.read(first)
    second_clip = joined[round((1 + PAUSE) * RATE) :][:RATE]
    np.testing.assert_allclose(second_clip, clips[1][0], atol=1e-4)


def test_a_source_is_limited_and_not_made_twice(tmp_path: Path) -> None:
    contents = {f"say/{k}.wav": wav(tone(1.0, 150 + k)) for k in range(20)}
    contents |= {"say/beep.wav": wav(tone(1.0, 1000)), "other/0.wav": wav(tone(1.0))}
    wheel = write_archives(tmp_path, contents)[0]
    recipe = small_recipe(wheel, minutes=0.1)
    (row,) = make_recordings(recipe, tmp_path, tmp_path / "work")
    assert row.seconds == pytest.approx(6.0)
    (recording,) = (tmp_path / "work" / "recordings" / "somebody").iterdir()
    stamp = recording.stat().st_mtime_ns
    wheel.unlink()
    assert make_recordings(recipe, tmp_path, tmp_path / "work") == [row]
    assert recording.stat().st_mtime_ns == stamp


def small_recipe(wheel: Path, minutes: float) -> Recipe:
    recipe = read_recipe()
    source = dataclasses.replace(
        recipe.sources[0],
        name="small",
        package="one",
        files=r"say/.*\.wav",
        exclude="beep",
        speaker="somebody",
        minutes=minutes,
    )
    package = Package("one", "pypi", "1.0", wheel.name, "")
    return dataclasses.replace(recipe, sources=(source,), packages={"one": package})


class FakeModel:
    """Says every text as a tone; nothing at all for a given voice."""

    def __init__(self, silent: str = "") -> None:
        self.silent = silent

    def speak(self, phonemes: str, parts: dict[str, float], speed: float) -> np.ndarray:
        if self.silent in parts:
            return np.zeros(24000)
        return 4 * tone(0.08 * len(phonemes) / speed, rate=24000)


def japanese_clips() -> list:
    """Clips of a voice that needs no espeak-ng."""
    recipe = read_recipe()
    voice = next(voice for voice in recipe.voices if voice.name == "jf_alpha")
    voice = dataclasses.replace(voice, guest_languages=())
    phrases = read_phrases()
    return [plan_clip(1, voice, k, phrases) for k in range(6)]


def test_clips_are_planned_one_by_one() -> None:
    clips = japanese_clips()
    assert clips[4] == japanese_clips()[4]
    assert len({clip.text for clip in clips}) == len(clips)
    assert all(0.85 <= clip.speed <= 1.15 for clip in clips)


def test_rounds_give_french_its_share() -> None:
    recipe = read_recipe()
    clips = list(plan_clips(recipe, read_phrases(), 2))
    names = [clip.name for clip in clips]
    assert len(set(names)) == len(names)
    counts = collections.Counter(clip.voice.name for clip in clips)
    assert counts["ff_siwis"] == counts["blend_fr_m4"] == 8
    assert counts["af_heart"] == counts["zm_yunxi"] == 2
    # The first round is there before the second begins.
    assert {clip.voice.name for clip in clips[: len(clips) // 2]} == counts.keys()


def test_guest_languages_take_turns() -> None:
    recipe = read_recipe()
    voice = next(voice for voice in recipe.voices if voice.name == "af_heart")
    phrases = read_phrases()
    spoken = [plan_clip(1, voice, k, phrases).language for k in range(9)]
    assert spoken == ["en-us", "en-us", "fr", "en-us", "en-us", "es", "en-us", "en-us", "fr"]


def test_clips_are_written_whole_or_rejected(tmp_path: Path) -> None:
    clip = japanese_clips()[0]
    seconds = write_clip(clip, FakeModel(), tmp_path)
    wave, rate = soundfile.read(tmp_path / "jf_alpha" / "0000.flac")
    assert rate == 24000
    assert seconds == pytest.approx(len(wave) / rate)
    assert np.abs(wave).max() == pytest.approx(0.95, abs=1e-3)
    assert write_clip(japanese_clips()[1], FakeModel("jf_alpha"), tmp_path) == 0
    rejected = json.loads((tmp_path / "jf_alpha" / "0001.rejected").read_text())
    assert rejected["reason"] == "silent"
    names = sorted(path.name for path in (tmp_path / "jf_alpha").iterdir())
    assert names == ["0000.flac", "0001.rejected"]


@pytest.mark.parametrize(
    ("wave", "fault"),
    [
        (np.full(24000, np.nan), "not finite"),
        (np.zeros(24000), "silent"),
        (2 * tone(1.0, rate=24000) / 0.3, "clipped"),
        (tone(0.1, rate=24000), "s a phoneme"),
        (tone(9.0, rate=24000), "s a phoneme"),
        (np.concatenate([tone(0.4, rate=24000), np.zeros(28800)]), "mostly silence"),
    ],
)
def test_faulty_clips_are_found(wave: np.ndarray, fault: str) -> None:
    assert fault in (find_fault(wave, "a" * 20) or "")
    assert find_fault(tone(1.6, rate=24000), "a" * 20) is None


def test_only_whole_groups_are_joined(tmp_path: Path) -> None:
    recipe = read_recipe()
    clips = japanese_clips()[:CLIPS_PER_RECORDING]
    for clip in clips[:-1]:
        write_clip(clip, FakeModel(), tmp_path / "clips")
    assert join_clips(recipe, tmp_path / "clips", tmp_path / "work") == []
    write_clip(clips[-1], FakeModel("jf_alpha"), tmp_path / "clips")
    (row,) = join_clips(recipe, tmp_path / "clips", tmp_path / "work")
    (recording,) = (tmp_path / "work" / "recordings" / "jf_alpha").iterdir()
    assert row.seconds == pytest.approx(soundfile.info(recording).duration)
    before = hash_listing([recording], tmp_path)
    assert join_clips(recipe, tmp_path / "clips", tmp_path / "work") == [row]
    assert hash_listing([recording], tmp_path) == before


def test_the_card_adds_up() -> None:
    recipe = read_recipe()
    rows = [
        Row("a", "ann", "woman", "en-us", 1800, "CC-BY-3.0", "2001 Ann", False),
        Row("b", "ann", "woman", "fr", 1800, "CC-BY-3.0", "2001 Ann", False),
        Row("kokoro", "bob", "man", "en-gb", 3600, "Apache-2.0", "hexgrad", True),
    ]
    card = describe(recipe, rows)
    assert "2.00 hours (1.00 recorded, 1.00 synthesized) of 2 speakers" in card
    assert "(1 women, 1 men), in 2 languages" in card
    assert "| ann | woman | 60.0 |" in card
    assert "| a | CC-BY-3.0 | 2001 Ann | 30.0 |" in card
