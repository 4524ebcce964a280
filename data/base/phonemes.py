"""Phonemes as Kokoro-82M reads them.

Most languages go through the program espeak-ng. Japanese (romaji) and Mandarin (pinyin) have
small tables here. The symbols are those of the model's own text processing, misaki (Apache-2.0).
"""

from __future__ import annotations

import re
import subprocess

ESPEAK_VOICES = {
    "en": "en-us",
    "en-us": "en-us",
    "en-gb": "en-gb",
    "es": "es",
    "fr": "fr-fr",
    "hi": "hi",
    "it": "it",
    "pt": "pt-br",
}

_PUNCTUATION = re.compile(r"\s*([.,?!;:।¿¡]+)\s*")

# espeak-ng writes two letters for one sound, joined by "^"; the model has one symbol for them.
_JOINED = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "ə^l": "ᵊl",
    "ʊ^ə": "ʊə",
}
_JOINED_ENGLISH = {"o^ʊ": "O", "ə^ʊ": "Q", "e^ə": "ɛː"}
_SINGLE = {"r.": "ɽ", "g": "ɡ", "ɬ": "l", "-": "", "\u0329": ""}
_SINGLE_ENGLISH = {"ɚɹ": "əɹ", "ɚ": "əɹ", "r": "ɹ", "ɐ": "ə", "ʲ": ""}
_SINGLE_AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ː": ""}


def find_phonemes(text: str, language: str) -> str:
    """Return the phonemes of a text, with its punctuation.

    Args:
      text: one or more sentences; romaji for `ja`, pinyin with digits for `cmn`.
      language: a key of `ESPEAK_VOICES`, `ja` or `cmn`.

    Raises:
      FileNotFoundError: espeak-ng is not installed.
    """
    pieces = _PUNCTUATION.split(text)
    clauses = pieces[0::2]
    marks = pieces[1::2]
    marks += [""] * (len(clauses) - len(marks))
    spoken = [_pronounce(clause, language) if clause else "" for clause in clauses]
    sentence = ""
    for clause, mark in zip(spoken, marks, strict=True):
        plain = mark.replace("।", ".").strip("¿¡")
        sentence += clause + plain + (" " if plain else "")
    return sentence.strip()


def _pronounce(clause: str, language: str) -> str:
    if language == "ja":
        return pronounce_japanese(clause)
    if language == "cmn":
        return pronounce_mandarin(clause)
    return _pronounce_with_espeak(clause, language)


def _pronounce_with_espeak(clause: str, language: str) -> str:
    command = ["espeak-ng", "-q", "--ipa", "--tie=^", "-v", ESPEAK_VOICES[language]]
    answer = subprocess.run([*command, clause], capture_output=True, text=True, check=True)
    phonemes = " ".join(answer.stdout.split())
    # A word of another language is marked with its code: "(en)word(fr)".
    phonemes = re.sub(r"\([a-z-]+\)", "", phonemes)
    is_english = language.startswith("en")
    table = _JOINED | (_JOINED_ENGLISH if is_english else {})
    for written, symbol in table.items():
        phonemes = phonemes.replace(written, symbol)
    phonemes = phonemes.replace("^", "")
    table = _SINGLE | (_SINGLE_ENGLISH if is_english else {})
    if ESPEAK_VOICES[language] == "en-us":
        table = table | _SINGLE_AMERICAN
    for written, symbol in table.items():
        phonemes = phonemes.replace(written, symbol)
    return phonemes


_ROMAJI = (
    ("kky", "ʔkʲ"),
    ("ssh", "ʔɕ"),
    ("tch", "ʔʨ"),
    ("tts", "ʔʦ"),
    ("ky", "kʲ"),
    ("gy", "ɡʲ"),
    ("ny", "ɲ"),
    ("hy", "ç"),
    ("by", "bʲ"),
    ("py", "pʲ"),
    ("my", "mʲ"),
    ("ry", "ɾʲ"),
    ("sh", "ɕ"),
    ("ch", "ʨ"),
    ("ts", "ʦ"),
    ("kk", "ʔk"),
    ("ss", "ʔs"),
    ("tt", "ʔt"),
    ("pp", "ʔp"),
    ("nn", "ɴn"),
    ("n'", "ɴ"),
    ("hi", "çi"),
    ("ni", "ɲi"),
    ("su", "sɨ"),
    ("zu", "zɨ"),
    ("j", "ʥ"),
    ("f", "ɸ"),
    ("y", "j"),
    ("r", "ɾ"),
    ("g", "ɡ"),
    ("z", "ʣ"),
    ("w", "β"),
    ("u", "ɯ"),
    ("ā", "aː"),
    ("ē", "eː"),
    ("ī", "iː"),
    ("ō", "oː"),
    ("ū", "ɯː"),
)


def pronounce_japanese(romaji: str) -> str:
    """Return the phonemes of romaji (Hepburn, long vowels with macrons)."""
    text = romaji.lower()
    phonemes = ""
    while text:
        if re.match(r"n(?![aeiouyāēīōūn'])", text):
            phonemes += "ɴ"
            text = text[1:]
            continue
        for written, symbol in _ROMAJI:
            if text.startswith(written):
                phonemes += symbol
                text = text[len(written) :]
                break
        else:
            phonemes += text[0]
            text = text[1:]
    return phonemes.replace("ʦɯ", "ʦɨ")


_INITIALS = (
    ("zh", "ꭧ"),
    ("ch", "ꭧʰ"),
    ("sh", "ʂ"),
    ("b", "p"),
    ("p", "pʰ"),
    ("d", "t"),
    ("t", "tʰ"),
    ("g", "k"),
    ("k", "kʰ"),
    ("h", "x"),
    ("j", "ʨ"),
    ("q", "ʨʰ"),
    ("x", "ɕ"),
    ("r", "ɻ"),
    ("z", "ʦ"),
    ("c", "ʦʰ"),
    ("s", "s"),
    ("m", "m"),
    ("f", "f"),
    ("n", "n"),
    ("l", "l"),
)
# "*" is where the tone goes: after the vowels.
_FINALS = {
    "a": "a*",
    "o": "wo*",
    "e": "ɤ*",
    "i": "i*",
    "u": "u*",
    "ü": "y*",
    "ai": "ai*",
    "ei": "ei*",
    "ao": "au*",
    "ou": "ou*",
    "an": "a*n",
    "en": "ə*n",
    "ang": "a*ŋ",
    "eng": "ə*ŋ",
    "ong": "ʊ*ŋ",
    "er": "ɚ*",
    "ia": "ja*",
    "ie": "je*",
    "iao": "jau*",
    "iu": "jou*",
    "iou": "jou*",
    "ian": "jɛ*n",
    "in": "i*n",
    "iang": "ja*ŋ",
    "ing": "i*ŋ",
    "iong": "jʊ*ŋ",
    "ua": "wa*",
    "uo": "wo*",
    "uai": "wai*",
    "ui": "wei*",
    "uei": "wei*",
    "uan": "wa*n",
    "un": "wə*n",
    "uen": "wə*n",
    "uang": "wa*ŋ",
    "ueng": "wə*ŋ",
    "üe": "ɥe*",
    "üan": "ɥɛ*n",
    "ün": "y*n",
    "-i": "ɨ*",
}
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": "", "": ""}


def pronounce_mandarin(pinyin: str) -> str:
    """Return the phonemes of pinyin with tones as digits (`ni3 hao3`)."""
    return " ".join(_pronounce_syllable(syllable) for syllable in pinyin.lower().split())


def _pronounce_syllable(syllable: str) -> str:
    tone = syllable[-1] if syllable[-1].isdigit() else ""
    letters = syllable.rstrip("12345").replace("v", "ü")
    initial, final = _split_syllable(letters)
    return initial + _FINALS[final].replace("*", _TONES[tone])


def _split_syllable(letters: str) -> tuple[str, str]:
    """Return the phonemes of the initial, and the final as `_FINALS` spells it."""
    if letters[0] == "y":
        return "", _spell_y(letters[1:])
    if letters[0] == "w":
        return "", "u" if letters == "wu" else "u" + letters[1:]
    for written, symbol in _INITIALS:
        if letters.startswith(written):
            final = letters[len(written) :]
            if written in ("j", "q", "x") and final[0] == "u":
                final = "ü" + final[1:]
            if written in ("zh", "ch", "sh", "r", "z", "c", "s") and final == "i":
                final = "-i"
            return symbol, final
    return "", letters


def _spell_y(rest: str) -> str:
    if rest.startswith("u"):
        return "ü" + rest[1:]
    return rest if rest.startswith("i") else "i" + rest
