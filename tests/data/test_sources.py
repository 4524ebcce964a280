"""Which recordings are found, and whose they are."""

import shutil

import pytest
import soundfile

from rvc_jax.data.cut import Cut
from rvc_jax.data.sources import find_bundled_sample, find_sources
from rvc_jax.errors import UserError

CLIP = find_bundled_sample("voice") / "ivr-concentrate.flac"


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIP, folder / name)
    return folder


def test_a_folder_is_a_speaker_and_so_is_every_sub_folder(tmp_path):
    folder = make(
        tmp_path / "Zoë 🎤",
        "b.FLAC",
        "Ann/2.flac",
        "Ann/cd 1/1.flac",
        "10/x.flac",
        "9/x.flac",
        "a.flac",
    )
    for name in (
        "LICENSE",
        "notes.txt",
        "cover.jpg",
        ".hidden.wav",
        "Ann/list.csv",
        ".git/a.wav",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no sound")
    sources = find_sources(folder)
    assert sources.speakers == ("Zoë 🎤", "9", "10", "Ann")
    names = [(cut.name, cut.speaker) for cut in sources.cuts]
    assert names == [
        ("a.flac", "Zoë 🎤"),
        ("b.FLAC", "Zoë 🎤"),
        ("9/x.flac", "9"),
        ("10/x.flac", "10"),
        ("Ann/2.flac", "Ann"),
        ("Ann/cd 1/1.flac", "Ann"),
    ]
    assert all(cut.path.exists() for cut in sources.cuts)
    assert find_sources(folder, "one").speakers == ("Zoë 🎤",)
    assert len(find_sources(folder, "one").cuts) == 6


def test_sub_folders_alone_are_the_speakers(tmp_path):
    assert find_sources(make(tmp_path / "all", "June/a.flac", "Callie/a.flac")).speakers == (
        "Callie",
        "June",
    )


def test_a_named_file_may_have_any_extension(tmp_path):
    path = tmp_path / "speech.bin"
    path.write_bytes(b"x")
    assert find_sources(path).cuts == (Cut(path, "speech.bin", "speech"),)


def test_missing_and_empty_folders_are_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_sources(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match="holds no recordings"):
        find_sources(tmp_path)


def test_remote_folders_are_listed_like_local_ones():
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("a.flac", "Ann/b.wav", "Ann/notes.txt"):
        memory.pipe_file(f"/bucket/speech/{name}", b"x")
    sources = find_sources("memory://bucket/speech/")
    assert [(cut.name, cut.speaker) for cut in sources.cuts] == [
        ("a.flac", "speech"),
        ("Ann/b.wav", "Ann"),
    ]
    assert sources.cuts[1].path == "memory:///bucket/speech/Ann/b.wav"
    one = find_sources("memory://bucket/speech/a.flac")
    assert [(cut.name, cut.speaker) for cut in one.cuts] == [("a.flac", "a")]
    with pytest.raises(UserError, match="holds no recordings"):
        find_sources("memory://bucket/nothing")
    with pytest.raises(UserError, match="nosuch://"):
        find_sources("nosuch://bucket/speech")


def test_the_bundled_sample_is_free_short_and_48_khz():
    voice = find_bundled_sample("voice")
    other = find_bundled_sample("other")
    infos = [soundfile.info(path) for path in voice.glob("*.flac")]
    assert 150 < sum(info.duration for info in infos) <= 180
    assert {info.samplerate for info in infos} == {48000}
    assert "CC-BY-3.0" in (voice / "LICENSE.txt").read_text("utf-8")
    assert [round(soundfile.info(path).duration) for path in other.glob("*.flac")] == [7]
    assert "public domain" in (other / "LICENSE.txt").read_text("utf-8")
