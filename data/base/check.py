"""Check the synthesized clips with a speech recognizer: are they what their text says?

    python -m data.base.check --clips CLIPS [--per-voice 2]

It prints the median character error rate of every voice and language, and the worst clips. Whisper
base or tiny.en must be on this machine (docs/quality.md says how). Languages whose texts are
written in another alphabet than the recognizer writes (hi, ja, cmn) are left out.
"""

from __future__ import annotations

import argparse
import collections
import statistics
from collections.abc import Iterator
from pathlib import Path

import soundfile
import soxr

from data.base.recipe import read_recipe
from data.base.synthesize import PlannedClip, plan_clip
from data.base.texts import read_phrases
from rvc_jax.metrics.asr import SpeechRecognizer, error_rate, words

LANGUAGES = ("en", "fr", "es", "it", "pt")
WORST = 10


def find_clips(folder: Path, per_voice: int) -> Iterator[tuple[PlannedClip, Path]]:
    """Yield the first finished clips of every voice in every language, with their files."""
    recipe = read_recipe()
    phrases = read_phrases()
    for voice in recipe.voices:
        found: collections.Counter[str] = collections.Counter()
        for number in range(recipe.count_clips(voice)):
            clip = plan_clip(recipe.seed, voice, number, phrases)
            language = clip.language.partition("-")[0]
            path = folder / f"{clip.name}.flac"
            if language not in LANGUAGES or found[language] >= per_voice or not path.exists():
                continue
            found[language] += 1
            yield clip, path


def measure(recognizer: SpeechRecognizer, clip: PlannedClip, path: Path) -> tuple[float, str]:
    """Return the character error rate of a clip, and what was recognized."""
    wave, rate = soundfile.read(path, dtype="float32")
    text = recognizer(soxr.resample(wave, rate, 16000), clip.language.partition("-")[0]).text
    return error_rate(" ".join(words(clip.text)), " ".join(words(text))), text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--per-voice", type=int, default=2, help="clips of each language")
    options = parser.parse_args()
    recognizer = SpeechRecognizer.find()
    if recognizer is None:
        raise SystemExit("no speech recognizer is on this machine: see docs/quality.md")
    errors = collections.defaultdict(list)
    everything = []
    for clip, path in find_clips(options.clips, options.per_voice):
        error, text = measure(recognizer, clip, path)
        errors[clip.voice.name, clip.language].append(error)
        everything.append((error, clip.name, clip.text, text))
    for (name, language), values in errors.items():
        print(f"{name} {language} {statistics.median(values):.3f}")
    middle = statistics.median(item[0] for item in everything)
    print(f"median of {len(everything)} clips: {middle:.3f}")
    for error, name, text, recognized in sorted(everything, reverse=True)[:WORST]:
        print(f"{error:.2f} {name}: {text} | {recognized}")


if __name__ == "__main__":
    main()
