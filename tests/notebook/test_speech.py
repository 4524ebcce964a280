"""Step 3: speech from everywhere, the dataset made of it, and its audit."""

from __future__ import annotations

import pytest
from notebook_room import Room

from rvc_jax.notebook.program import NotebookError


def test_uploads_are_asked_for_once(room: Room) -> None:
    made = room.studio()
    room.colab.chosen = ["one.wav"]
    made.add_speech("upload (envoyer)")
    made.add_speech("upload (envoyer)")
    assert (
        room.colab.calls.count("upload") == 1
        and "1 recordings were uploaded before" in room.text
    )
    room.colab.chosen = ["two.wav"]
    made.add_speech("upload (envoyer)", upload_more=True)
    assert "Speech: 2 files" in room.shown[-1]


def test_nothing_was_chosen(room: Room) -> None:
    with pytest.raises(NotebookError, match="Nothing was uploaded"):
        room.studio().add_speech("upload (envoyer)")


def test_links(room: Room) -> None:
    made = room.studio()
    with pytest.raises(NotebookError, match="LINKS is empty"):
        made.add_speech("links (liens)", "  ")
    made.add_speech("links (liens)", "https://a.example/1 https://a.example/2")
    assert room.commands.asked[0][1:3] == ["https://a.example/1", "https://a.example/2"]
    assert "Skipped second: it is private" in room.text and "Speech: 1 files" in room.shown[-1]


def test_a_folder_of_drive_is_used_where_it_is(room: Room) -> None:
    made = room.studio()
    with pytest.raises(NotebookError, match="no folder .*MyDrive/talks"):
        made.add_speech("folder (dossier)", folder="MyDrive/talks")
    talks = room.content / "drive" / "MyDrive" / "talks"
    talks.mkdir()
    (talks / "one.wav").write_bytes(b"sound")
    made.add_speech("folder (dossier)", folder="MyDrive/talks")
    made.prepare("48k")
    assert (
        room.commands.asked[0][1] == str(talks)
        and room.commands.option("prepare", "--preset") == "48k"
    )


def test_a_dataset_is_made_again_only_of_other_speech_or_settings(room: Room) -> None:
    made = room.prepared()
    made.prepare("40k")
    assert room.commands.names() == ["prepare"] and "is used again" in room.text
    made.prepare("48k")
    (made.voice.speech / "three.wav").write_bytes(b"sound")
    made.prepare("48k")
    assert room.commands.names() == ["prepare"] * 3
    assert ["--overwrite" in asked for asked in room.commands.asked] == [False, True, True]
    assert room.text.count("Skipped bad.mp3: damaged") == 4 and "too short" not in room.text


def test_the_audit_is_shown_and_made_once(room: Room) -> None:
    made = room.prepared()
    made.audit()
    made.audit()
    assert room.commands.names() == ["prepare", "audit"]
    assert (
        room.shown.count("good: Enough. (20 minutes)") == 2
        and room.shown.count("[audit.html]") == 2
    )
