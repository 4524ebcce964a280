"""Step 2: where a voice is kept, and names that are refused."""

from __future__ import annotations

import pytest
from notebook_room import Room

from rvc_jax.notebook.program import NotebookError


def test_what_lies_on_drive(room: Room) -> None:
    made = room.studio()
    assert (
        made.voice.path == room.content / "drive" / "MyDrive" / "rvc_voices" / "ada"
        and made.voice.path.is_dir()
    )
    assert room.commands.environment["JAX_COMPILATION_CACHE_DIR"] == str(
        made.voice.path.parent / "compiled"
    )
    assert room.colab.calls == ["mount"]


def test_without_drive(room: Room) -> None:
    made = room.studio(use_drive=False)
    assert made.voice.path == room.content / "rvc_voices" / "ada"
    assert (
        room.colab.calls == [] and "JAX_COMPILATION_CACHE_DIR" not in room.commands.environment
    )
    assert "a disconnect loses it" in room.text


def test_drive_that_was_refused(room: Room) -> None:
    room.colab.fails["mount"] = ValueError("mount failed")
    with pytest.raises(NotebookError, match="mount failed.*untick USE_GOOGLE_DRIVE"):
        room.studio()


@pytest.mark.parametrize(
    "name", ["", "../ada", "a/b", "ada.", "con", "G_2333333", "x" * 61, "a\nb", ".ada"]
)
def test_names_that_are_none(room: Room, name: str) -> None:
    with pytest.raises(NotebookError, match="can't be a name"):
        room.studio().open_voice(name, False)


@pytest.mark.parametrize("folder", ["", "..", "a/../../b", "/etc"])
def test_folders_outside_of_drive(room: Room, folder: str) -> None:
    with pytest.raises(NotebookError, match="inside your Drive"):
        room.studio().open_voice("ada", True, folder)
