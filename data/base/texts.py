"""Sentences put together from the phrases of phrases.toml."""

from __future__ import annotations

import random
import string
import tomllib
from pathlib import Path

PHRASES = Path(__file__).with_name("phrases.toml")

Phrases = dict[str, dict[str, list[str]]]
"""For every language: lists of phrases by name, and `forms`."""


def read_phrases(path: Path = PHRASES) -> Phrases:
    """Read the lists of phrases of all languages."""
    return tomllib.loads(path.read_text())


def make_sentence(phrases: Phrases, language: str, random_numbers: random.Random) -> str:
    """Make one sentence of a language.

    Args:
      phrases: what `read_phrases` returns.
      language: code of the language, such as `fr`.
      random_numbers: chooses the form and the phrases; the same numbers make the same sentence.
    """
    lists = phrases[language]
    form = random_numbers.choice(lists["forms"])
    sentence = ""
    for literal, name in _split(form):
        sentence += literal
        if name:
            sentence += random_numbers.choice(lists[name])
    return sentence[0].upper() + sentence[1:]


def _split(form: str) -> list[tuple[str, str]]:
    """Split a form into pairs of literal text and the name of the list that follows it."""
    parts = []
    position = 0
    for match in string.Template.pattern.finditer(form):
        parts.append((form[position : match.start()], match["named"]))
        position = match.end()
    parts.append((form[position:], ""))
    return parts
