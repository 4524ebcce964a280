"""What is said: speech recognition by Whisper (arXiv 2212.04356), and how far two transcripts are
apart."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.weights import store

MODELS = ("faster-whisper-base", "faster-whisper-tiny.en")
"""Names in the registry, the better one first; the second knows English alone."""
INSTALL_HINT = (
    '`pip install "rvc_jax[eval]"` and `rvc-jax download faster-whisper-base` (or faster-whisper-tiny.en, for English '
    "alone) bring what it is measured with"
)


class Transcript(NamedTuple):
    """What was understood."""

    text: str
    language: str
    """Code of two or three letters."""


class SpeechRecognizer:
    """Whisper on the CPU, as the package faster-whisper runs it."""

    def __init__(self, folder: Path, name: str) -> None:
        """From a folder in CTranslate2's layout, with tokenizer.json. Raises UserError if it is not
        that."""
        from faster_whisper import WhisperModel

        self.name = name
        if not (folder / "tokenizer.json").is_file():  # the package would look for one on a hub
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
        """With the best of `MODELS` on this machine; None if there is none, or no
        faster-whisper."""
        if importlib.util.find_spec("faster_whisper") is None:
            return None
        found = ((name, store.find(name)) for name in MODELS)
        return next((cls(folder, name) for name, folder in found if folder), None)

    @property
    def is_multilingual(self) -> bool:
        return len(self._model.supported_languages) > 1

    def knows(self, language: str) -> bool:
        """Whether it can transcribe a language (code)."""
        return language in self._model.supported_languages

    def __call__(self, audio16k: np.ndarray, language: str | None = None) -> Transcript:
        """audio16k float [samples] at 16 kHz; language: its code, heard from the recording if not
        given."""
        segments, info = self._model.transcribe(
            np.asarray(audio16k, np.float32),
            language=language,
            temperature=0.0,
            condition_on_previous_text=False,
        )  # at temperature 0 the same sound gives the same words
        return Transcript(" ".join(segment.text.strip() for segment in segments), info.language)


def words(text: str) -> list[str]:
    """Words to compare: small letters, without punctuation; apostrophes within a word stay."""
    text = (
        unicodedata.normalize("NFKC", text)
        .casefold()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return [word for word in (part.strip("'") for part in kept.split()) if word]


def error_rate(reference: Sequence, hypothesis: Sequence) -> float:
    """Substitutions, deletions and insertions (Levenshtein) per item of a reference that has at
    least one.

    Of words it is the word error rate, of a string the character error rate. 0 is equal; above 1 if
    much was added.
    """
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal = row[0]
        row[0] = i
        for j, given in enumerate(hypothesis, 1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != given)),
            )
    return row[-1] / len(reference)
