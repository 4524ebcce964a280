"""Steps 6 and 7: conversion, export, and when the runtime may end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from notebook_room import Room

from rvc_jax.notebook import colab
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.studio import Studio


def damage(made: Studio) -> None:
    (made.voice.export / "ada.pth").write_bytes(b"weight")


def lose(made: Studio) -> None:
    (made.voice.export / "ada.pth").unlink()


def train_further(made: Studio) -> None:
    (made.voice.run / "best" / "50").mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage, "is missing or has changed"),
        (lose, "is missing or has changed"),
        (train_further, "trained further"),
    ],
)
def test_an_export_that_is_not_right_keeps_the_runtime(
    room: Room, change: Callable[[Studio], None], words: str
) -> None:
    made = room.trained()
    made.export()
    change(made)
    with pytest.raises(NotebookError, match=words):
        made.release(True)
    assert "release" not in room.colab.calls
    made.export()
    made.release(True)
    assert room.colab.calls[-1] == "release"


def test_drive_that_does_not_take_the_export_keeps_the_runtime(room: Room) -> None:
    made = room.trained()
    made.export()
    room.colab.fails["send_to_drive"] = ValueError("timed out")
    with pytest.raises(NotebookError, match="did not take everything: timed out"):
        made.release(True)
    assert "release" not in room.colab.calls


def test_drive_that_is_gone_keeps_the_runtime(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = room.trained()
    made.export()
    monkeypatch.setattr(
        colab, "device", lambda folder: 1
    )  # the runtime's own disk is under that path now
    for step in (lambda: made.release(True), lambda: made.train(300), made.export):
        with pytest.raises(NotebookError, match="not mounted any more"):
            step()
    assert "release" not in room.colab.calls and room.commands.names().count("train") == 1


def test_colab_that_does_not_release_says_what_to_do(room: Room) -> None:
    made = room.trained()
    made.export()
    room.colab.fails["release"] = RuntimeError("500")
    with pytest.raises(NotebookError, match="500.*by hand"):
        made.release(True)


def test_without_drive_the_files_must_be_the_users(room: Room) -> None:
    made = room.trained(use_drive=False)
    made.export()
    with pytest.raises(NotebookError, match="I_HAVE_THE_FILES"):
        made.release(True)
    assert room.colab.calls == ["upload", "download"]
    made.release(True, have_the_files=True)
    assert room.colab.calls[-1] == "release" and "send_to_drive" not in room.colab.calls


def test_release_is_asked_for_and_may_wait(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    made = room.trained()
    made.export()
    made.release(False)
    assert "release" not in room.colab.calls and "not ticked" in room.shown[-1]
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    made.release(True, 3)
    assert now[0] == pytest.approx(180) and room.colab.calls[-1] == "release"


def test_stopping_the_wait_keeps_the_runtime(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = room.trained()
    made.export()

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)
    made.release(True, 3)
    assert "release" not in room.colab.calls and "The runtime stays" in room.shown[-1]


def test_an_intact_export_is_not_made_again(room: Room) -> None:
    made = room.trained()
    made.export()
    made.export(download=False)
    assert (
        room.commands.names().count("export") == 1 and room.colab.calls.count("download") == 1
    )


def test_converting(room: Room) -> None:
    made = room.trained()
    room.colab.chosen = ["song.mp3", "talk.wav"]
    made.convert("upload (envoyer)", transpose="-12", format="wav")
    asked = [asked for asked in room.commands.asked if asked[0] == "convert"]
    assert [Path(each[3]).name for each in asked] == ["song.wav", "talk.wav"]
    assert all(each[4:] == ["--transpose", "-12"] for each in asked)
    assert [text for text in room.shown if text.startswith("[s")] == [
        "[song.mp3]",
        "[song.wav]",
    ]
    with pytest.raises(NotebookError, match="TRANSPOSE 'up'"):
        made.convert("upload (envoyer)", transpose="up")
    with pytest.raises(NotebookError, match="no recording"):
        made.convert("file (fichier)", "MyDrive/none.mp3")
