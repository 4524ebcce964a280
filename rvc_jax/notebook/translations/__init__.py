"""What the notebook says, in one JSON file per language: texts by key, with fields in braces."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

Language = Literal["en", "fr"]

LANGUAGES: dict[str, Language] = {"English": "en", "Français": "fr"}
"""Languages by their name in the notebook's form."""


@cache
def load_texts(language: Language) -> dict[str, str]:
    """Return all texts of a language, by key."""
    return json.loads(Path(__file__).with_name(f"{language}.json").read_text("utf-8"))


class Translations:
    """The texts of one language."""

    def __init__(self, language: Language):
        self.language: Language = language

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with the values of its fields filled in."""
        return load_texts(self.language)[key].format(**values)
