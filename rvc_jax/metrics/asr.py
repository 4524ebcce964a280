"""Speech recognition by Whisper (arXiv 2212.04356), and error rates of transcripts."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage.installation import install_command
from rvc_jax.weights import store

MODELS = ("faster-whisper-base", "faster-whisper-tiny.en")
"""Names in the registry, the better one first; the second supports English alone."""
INSTALL_HINT = (
    f"`{install_command('eval')}` and `rvc-jax download faster-whisper-base` "
    "(or faster-whisper-tiny.en, for English alone) bring what it is measured with"
)


class Transcript(NamedTuple):
    """The recognized words."""

    text: str
    language: str
    """Code of two or three letters."""


class SpeechRecognizer:
    """Whisper on the CPU, by the package faster-whisper."""

    def __init__(self, folder: Path, name: str) -> None:
        """Load a model from a folder in CTranslate2's layout, with tokenizer.json.

        Raises:
          UserError: the folder holds no such model.
        """
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports] an extra

        self.name = name
        # Without the file, the package would look for one on a hub.
        if not (folder / "tokenizer.json").is_file():
            raise UserError(
                f"{folder} holds no tokenizer.json: it is no model for faster-whisper"
            )
        try:
            self._model = WhisperModel(str(folder), device="cpu", compute_type="int8")
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{folder} is no model that faster-whisper can run ({error})"
            ) from None

    @classmethod
    def find(cls) -> SpeechRecognizer | None:
        """Load the best of `MODELS` on this machine; None without a model or faster-whisper."""
        if importlib.util.find_spec("faster_whisper") is None:
            return None
        for name in MODELS:
            folder = store.find(name)
            if folder:
                return cls(folder, name)
        return None

    @property
    def is_multilingual(self) -> bool:
        """Whether it supports more languages than English."""
        return len(self._model.supported_languages) > 1

    def supports(self, language: str) -> bool:
        """Whether it can transcribe a language (code)."""
        return language in self._model.supported_languages

    def __call__(self, audio16k: np.ndarray, language: str | None = None) -> Transcript:
        """Transcribe audio.

        Args:
          audio16k: float [samples] at 16 kHz.
          language: its code; detected if not given.
        """
        # At temperature 0 the same audio always has the same transcript.
        segments, info = self._model.transcribe(
            np.asarray(audio16k, np.float32),
            language=language,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        text = " ".join(segment.text.strip() for segment in segments)
        return Transcript(text, info.language)


def words(text: str) -> list[str]:
    """Split a text into words for comparison: lower case, no punctuation.

    Apostrophes within a word stay.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")

    def belongs_to_a_word(character: str) -> bool:
        return character == "'" or unicodedata.category(character)[0] in "LMN"

    plain = "".join(c if belongs_to_a_word(c) else " " for c in text)
    stripped = (part.strip("'") for part in plain.split())
    return [word for word in stripped if word]


def error_rate(reference: Sequence, hypothesis: Sequence) -> float:
    """Count substitutions, deletions and insertions (Levenshtein) per item of the reference.

    For lists of words this is the word error rate, for strings the character error rate. The
    reference has at least one item. 0: equal; above 1 if much was added.
    """
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal = row[0]
        row[0] = i
        for j, given in enumerate(hypothesis, 1):
            substituted = diagonal + (wanted != given)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1] / len(reference)
