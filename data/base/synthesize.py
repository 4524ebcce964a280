"""Synthesize speech of many voices with Kokoro-82M, a sentence at a time.

    python -m data.base.synthesize --packages PACKAGES --out CLIPS

Voices take turns, so that at any moment every voice has about the same number of clips. The
command can be stopped at any time; the same command goes on. A clip is written under a temporary
name and renamed, so what is there is whole. The text of a clip depends on the recipe's seed, the
voice and the clip's number, and on nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from data.base.kokoro import RATE, Kokoro
from data.base.phonemes import find_phonemes
from data.base.recipe import Recipe, SyntheticVoice, read_recipe
from data.base.texts import Phrases, make_sentence, read_phrases

SPEEDS = (0.85, 1.15)
"""Range of the speed of speech; 1 is the model's own."""

PEAK = 0.95
"""Louder clips are scaled down to this peak: the model's own output may exceed 1."""

SECONDS_PER_PHONEME = (0.035, 0.22)
"""A clip that is shorter or longer has lost or repeated words."""


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """One sentence of one voice."""

    voice: SyntheticVoice
    number: int
    language: str
    text: str
    speed: float

    @property
    def name(self) -> str:
        """Path below the folder of the clips, without its ending."""
        return f"{self.voice.name}/{self.number:04d}"


def plan_clips(recipe: Recipe, phrases: Phrases, rounds: int) -> Iterator[PlannedClip]:
    """Yield the clips of all voices in the order in which they are made.

    After any number of rounds all voices have the same share of their clips.
    """
    for number in range(rounds):
        for voice in recipe.voices:
            count = recipe.count_clips_per_round(voice)
            for clip in range(number * count, (number + 1) * count):
                yield plan_clip(recipe.seed, voice, clip, phrases)


def plan_clip(seed: int, voice: SyntheticVoice, number: int, phrases: Phrases) -> PlannedClip:
    """Choose language, text and speed of one clip.

    Every third clip of a voice is in the next one of its guest languages.
    """
    random_numbers = random.Random(f"{seed} {voice.name} {number}")
    language = voice.language
    if voice.guest_languages and number % 3 == 2:
        language = voice.guest_languages[number // 3 % len(voice.guest_languages)]
    text = make_sentence(phrases, language.partition("-")[0], random_numbers)
    speed = round(random_numbers.uniform(*SPEEDS), 3)
    return PlannedClip(voice, number, language, text, speed)


def find_fault(wave: np.ndarray, phonemes: str, speed: float = 1.0) -> str | None:
    """Return what is wrong with a clip, or None.

    Args:
      wave: float [samples] at `RATE`.
      phonemes: what was to be said.
      speed: how fast.
    """
    if not np.isfinite(wave).all():
        return "not finite"
    if len(wave) == 0 or np.abs(wave).max() < 0.03:
        return "silent"
    if np.abs(wave).max() > PEAK + 1e-6:
        return "clipped"
    seconds = len(wave) / RATE * speed / max(1, len(phonemes))
    low, high = SECONDS_PER_PHONEME
    if not low <= seconds <= high:
        return f"{seconds:.3f} s a phoneme"
    frames = wave[: len(wave) // 240 * 240].reshape(-1, 240)
    level = np.sqrt(np.mean(frames**2, axis=1))
    if np.mean(level < 0.02 * level.max()) > 0.6:
        return "mostly silence"
    return None


def write_clip(clip: PlannedClip, model: Kokoro, out: Path) -> float:
    """Synthesize one clip and write OUT/NAME.flac, or OUT/NAME.rejected with the reason.

    Returns:
      Seconds of speech written; 0 for a rejected clip.
    """
    target = out / f"{clip.name}.flac"
    target.parent.mkdir(parents=True, exist_ok=True)
    phonemes = find_phonemes(clip.text, clip.language)
    wave = model.speak(phonemes, clip.voice.parts, clip.speed)
    wave = wave * min(1.0, PEAK / max(1e-9, float(np.abs(wave).max())))
    fault = find_fault(wave, phonemes, clip.speed)
    if fault:
        record = {"reason": fault, "text": clip.text, "language": clip.language}
        temporary = target.with_suffix(".partial")
        temporary.write_text(json.dumps(record, ensure_ascii=False))
        temporary.rename(target.with_suffix(".rejected"))
        return 0.0
    temporary = target.with_suffix(".partial")
    soundfile.write(temporary, wave, RATE, format="FLAC", subtype="PCM_16")
    temporary.rename(target)
    return len(wave) / RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of fetch")
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--rounds", type=int, help="clips of most voices (default: recipe)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    recipe = read_recipe()
    model = Kokoro(recipe, options.packages, options.threads)
    rounds = options.rounds or recipe.synthesis["clips_per_voice"]
    seconds = 0.0
    began = time.monotonic()
    for clip in plan_clips(recipe, read_phrases(), rounds):
        target = options.out / f"{clip.name}.flac"
        if target.exists() or target.with_suffix(".rejected").exists():
            continue
        seconds += write_clip(clip, model, options.out)
        speed = seconds / (time.monotonic() - began)
        print(f"{clip.name} {clip.language} {seconds / 60:.1f} min, {speed:.2f}x", flush=True)


if __name__ == "__main__":
    main()
