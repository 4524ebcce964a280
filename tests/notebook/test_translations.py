"""The two languages of the notebook."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from rvc_jax.notebook import translations
from rvc_jax.notebook.translations import TEXTS, Translations

SOURCES = Path(translations.__file__).parent.glob("*.py")


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_say_it_with_the_same_values(key: str) -> None:
    english, french = TEXTS[key]
    assert english.strip() and french.strip()
    assert fields(english) == fields(french)
    same = {"python", "budget"}
    assert key in same or english != french


def fields(text: str) -> set[tuple[str, str]]:
    return {
        (name, form) for _, name, form, _ in string.Formatter().parse(text) if name is not None
    }


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    used = set()
    everything = ""
    for file in SOURCES:
        everything += file.read_text() if file.name != "texts.py" else ""
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "self.texts",
                "texts",
                "say",
                "self._texts",
            )
            if named and node.args and isinstance(node.args[0], ast.Constant):
                used.add(node.args[0].value)
    assert used <= TEXTS.keys()
    assert {key for key in TEXTS if not re.search(rf'"{re.escape(key)}"', everything)} <= {
        "good",
        "notice",
        "problem",
    }


def test_french_has_its_own_signs() -> None:
    for _, french in TEXTS.values():
        assert not re.search(r"\w[:;!?](\s|$)", french), french  # a space comes before them
    assert Translations("fr")("speech", count=2, folder="x") == "Parole : 2 fichiers dans x."
