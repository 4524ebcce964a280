"""The two languages of the notebook."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import rvc_jax.notebook
from rvc_jax.notebook.translations import LANGUAGES, Translations, load_texts

ENGLISH = load_texts("en")
FRENCH = load_texts("fr")
CALLS = ("self.texts", "texts", "translate", "self._texts")
"""How the notebook's modules ask for a text."""

VERDICTS = {"good", "notice", "problem"}
"""Keys that an audit's advice names."""


def test_every_language_has_the_same_keys_in_the_same_order() -> None:
    for language in LANGUAGES.values():
        assert list(load_texts(language)) == list(ENGLISH)


@pytest.mark.parametrize("key", ENGLISH)
def test_both_languages_say_it_with_the_same_values(key: str) -> None:
    assert ENGLISH[key].strip() and FRENCH[key].strip()
    assert fields(ENGLISH[key]) == fields(FRENCH[key])
    same = {"python"}
    assert key in same or ENGLISH[key] != FRENCH[key]


def fields(text: str) -> set[tuple[str, str]]:
    return {
        (name, form or "")
        for _, name, form, _ in string.Formatter().parse(text)
        if name is not None
    }


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    used = set()
    everything = ""
    for file in Path(rvc_jax.notebook.__file__).parent.glob("*.py"):
        everything += file.read_text()
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in CALLS:
                continue
            if node.args and isinstance(node.args[0], ast.Constant):
                used.add(node.args[0].value)
    assert len(used) > 50 and used <= ENGLISH.keys()
    unused = {key for key in ENGLISH if not re.search(rf'"{re.escape(key)}"', everything)}
    assert unused <= VERDICTS


def test_french_has_its_own_signs() -> None:
    for french in FRENCH.values():
        assert not re.search(r"\w[:;!?](\s|$)", french), french  # a space comes before them
    assert Translations("fr")("speech", count=2, folder="x") == "Parole : 2 fichiers dans x."
