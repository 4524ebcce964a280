"""The folder of a voice, and its name."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rvc_jax.notebook.workspace import Workspace, is_name, recordings
from rvc_jax.voices.names import check_name


@given(
    st.text(max_size=70)
    | st.from_regex(r"[\w -]{1,20}", fullmatch=True)
    | st.sampled_from(["été 2", "G_12", "aux"])
)
def test_what_is_a_name_is_one_for_the_export(text: str) -> None:
    if is_name(text):
        check_name(text)


def test_usual_names() -> None:
    assert all(map(is_name, ("a", "ada", "Été 2", "my voice", "声", "x_y-z", "D-2")))


def test_notes_survive_and_damage_is_no_error(tmp_path: Path) -> None:
    voice = Workspace(tmp_path, "ada", on_drive=False)
    voice.note(a=1)
    voice.note(b=2)
    assert Workspace(tmp_path, "ada", on_drive=False).state == {"a": 1, "b": 2}
    (voice.path / "notebook.json").write_text("{")
    assert voice.state == {} and voice.beat == {} and voice.best_step is None


def test_recordings_are_what_is_not_a_note(tmp_path: Path) -> None:
    for name in ("a.wav", "sub/b.mp3", "a.source.json", ".hidden", ".part/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    assert recordings(tmp_path) == {"a.wav": 2, "sub/b.mp3": 2}
