import shutil

import pytest
import soundfile

from rvc_jax.data.sources import bundled_sample, find_sources
from rvc_jax.errors import UserError


def test_a_folder_is_one_speaker_with_all_its_recordings_in_order(tmp_path):
    folder = tmp_path / "Zoë 🎤"
    (folder / "b").mkdir(parents=True)
    clip = bundled_sample("voice") / "ivr-concentrate.flac"
    for name in ("b/one.FLAC", "a.flac"):
        shutil.copy(clip, folder / name)
    for name in ("LICENSE", "notes.txt", "cover.jpg", ".hidden.wav", "b/list.csv"):
        (folder / name).write_text("no sound")
    sources = find_sources(folder)
    assert sources.names == ("a.flac", "b/one.FLAC")
    assert [path.exists() for path in sources.paths] == [True, True]
    assert sources.speaker == "Zoë 🎤"


def test_a_named_file_is_taken_whatever_its_ending(tmp_path):
    path = tmp_path / "speech.bin"
    path.write_bytes(b"x")
    assert find_sources(path).names == ("speech.bin",)
    assert find_sources(path).speaker == "speech"


def test_missing_and_empty_folders_are_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_sources(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match="holds no recordings"):
        find_sources(tmp_path)


def test_the_bundled_sample_is_free_short_and_48_khz():
    voice, other = bundled_sample("voice"), bundled_sample("other")
    infos = [soundfile.info(path) for path in voice.glob("*.flac")]
    assert 150 < sum(info.duration for info in infos) <= 180
    assert {info.samplerate for info in infos} == {48000}
    assert "CC-BY-3.0" in (voice / "LICENSE.txt").read_text("utf-8")
    assert [round(soundfile.info(path).duration) for path in other.glob("*.flac")] == [7]
    assert "public domain" in (other / "LICENSE.txt").read_text("utf-8")
