"""data/base: sentences from phrases, and their phonemes."""

from __future__ import annotations

import random
import shutil

import pytest

from data.base.phonemes import find_phonemes, pronounce_japanese, pronounce_mandarin
from data.base.texts import make_sentence, read_phrases

PHRASES = read_phrases()


@pytest.mark.parametrize("language", PHRASES)
def test_sentences_are_whole_and_repeatable(language: str) -> None:
    first = [make_sentence(PHRASES, language, random.Random(k)) for k in range(30)]
    again = [make_sentence(PHRASES, language, random.Random(k)) for k in range(30)]
    assert first == again
    assert len(set(first)) >= 29
    for sentence in first:
        assert "$" not in sentence
        assert sentence[-1] in ".?।"


@pytest.mark.parametrize(
    ("romaji", "phonemes"),
    [
        # Readings as misaki writes them.
        ("nihongo", "ɲihoɴɡo"),
        ("kyōto", "kʲoːto"),
        ("kitte", "kiʔte"),
        ("shinbun", "ɕiɴbɯɴ"),
        ("tsukue", "ʦɨkɯe"),
        ("hon'ya", "hoɴja"),
    ],
)
def test_japanese(romaji: str, phonemes: str) -> None:
    assert pronounce_japanese(romaji) == phonemes


@pytest.mark.parametrize(
    ("pinyin", "phonemes"),
    [
        ("ni3 hao3", "ni↓ xau↓"),
        ("zhong1 guo2", "ꭧʊ→ŋ kwo↗"),
        ("xue2", "ɕɥe↗"),
        ("yuan2", "ɥɛ↗n"),
        ("wei4 shen2 me", "wei↘ ʂə↗n mɤ"),
        ("si4 shi2", "sɨ↘ ʂɨ↗"),
        ("nü3 er2", "ny↓ ɚ↗"),
        ("you3 yi1", "jou↓ i→"),
    ],
)
def test_mandarin(pinyin: str, phonemes: str) -> None:
    assert pronounce_mandarin(pinyin) == phonemes


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize(
    ("text", "language", "phonemes"),
    [
        ("The boy said: how now?", "en-us", "ðə bˈY sˈɛd: hˌW nˈW?"),
        ("The bird is there.", "en-gb", "ðə bˈɜːd ɪz ðˈɛː."),
        ("Où est la fête ?", "fr", "u ɛ la fˈɛt?"),
    ],
)
def test_other_languages(text: str, language: str, phonemes: str) -> None:
    plain = str.maketrans("", "", "ˈˌ")
    assert find_phonemes(text, language).translate(plain) == phonemes.translate(plain)
