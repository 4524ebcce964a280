"""Words and their errors; what Whisper understands, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from rvc_jax.audio.reading import load
from rvc_jax.errors import UserError
from rvc_jax.metrics.asr import SpeechRecognizer, error_rate, words
from rvc_jax.weights import store

installed = importlib.util.find_spec("faster_whisper") is not None
english = store.find("faster-whisper-tiny.en")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("a b c d", "a b c d", 0),
        ("a b c d", "a x c d", 1 / 4),
        ("a b c d", "a c d", 1 / 4),
        ("a b c d", "a b c c d", 1 / 4),
        ("a b c d", "", 1),
        ("a", "b c d", 3),
        ("the cat sat on the mat", "a cat sat on mat today", 3 / 6),
    ],
)
def test_word_errors(reference: str, hypothesis: str, rate: float) -> None:
    assert error_rate(words(reference), words(hypothesis)) == rate


def test_character_errors() -> None:
    assert error_rate("kitten", "sitting") == 3 / 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            " Don't  STOP, 'Mr.' Dashwood\N{EM DASH}now! ",
            ["don't", "stop", "mr", "dashwood", "now"],
        ),
        (
            "Aujourd\N{RIGHT SINGLE QUOTATION MARK}hui, \u00c9T\u00c9",
            ["aujourd'hui", "\u00e9t\u00e9"],
        ),
        ("e\u0301te\u0301 3,5", ["\u00e9t\u00e9", "3", "5"]),
        ("\u65e5\u672c\u3002\u8a9e", ["\u65e5\u672c", "\u8a9e"]),
        ("... '' !", []),
    ],
)
def test_words_are_what_is_spoken(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_without_weights_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find", lambda name: None)
    assert SpeechRecognizer.find() is None


@pytest.mark.skipif(not installed, reason="faster-whisper is not installed")
def test_what_is_no_model_is_refused_and_no_hub_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        SpeechRecognizer(tmp_path, "x")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(UserError, match="no model that faster-whisper can run"):
        SpeechRecognizer(tmp_path, "x")


@pytest.mark.skipif(
    not installed or english is None, reason="faster-whisper or its model is not here"
)
def test_a_sentence_is_understood(other_clip: Path) -> None:
    model = SpeechRecognizer(english, "faster-whisper-tiny.en")
    assert not model.is_multilingual and model.supports("en") and not model.knows("fr")
    transcript = model(load(other_clip, 16000))
    assert transcript.language == "en" and {"dashwood", "leisure", "prudently"} <= set(
        words(transcript.text)
    )
    assert model(load(other_clip, 16000)) == transcript
