"""Any text becomes a name that every system accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvc_jax.storage.file_names import shorten, to_file_name


def test_short_names_stay_and_long_ones_are_cut_between_letters() -> None:
    assert shorten("声" * 33, 100) == "声" * 33
    cut = shorten("声" * 100, 100)
    assert len(cut.encode()) <= 100 and cut.startswith("声" * 30) and cut[-9] == "-"
    assert shorten("声" * 100 + "a", 100) != cut
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert not shorten(family * 20, 100).partition("-")[0].endswith("\u200d")
    assert not shorten("e\u0301" * 100, 100).startswith("\u0301")


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("a/b\\c:d", "a_b_c_d.pth"),
        ("con", "_con.pth"),
        ("LPT1", "_LPT1.pth"),
        ("trailing. . ", "trailing.pth"),
        ("\x1b[31m\n\u202e", "_[31m__.pth"),
        ("...", "voice.pth"),
        ("", "voice.pth"),
        ("\ud800", "_.pth"),
        ("ok 声 🎤", "ok 声 🎤.pth"),
    ],
)
def test_letters(stem: str, name: str) -> None:
    assert to_file_name(stem, ".pth", "voice") == name


@given(stem=st.text(st.characters(codec=None), max_size=400))
def test_every_text(stem: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = to_file_name(stem, ".safetensors")
    assert len(name.encode()) <= 255 and Path(name).name == name
    assert to_file_name(name.removesuffix(".safetensors"), ".safetensors") == name
