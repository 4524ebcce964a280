"""The same sound is found in every encoding; different sentences of one voice are distinguished."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import find_audio, load
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.metrics.fingerprint import FRAMES_PER_SECOND, find_repeats, fingerprint

RATE = 16000


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    return [load(path, RATE)[: 4 * RATE] for path in find_audio(find_bundled_sample("voice"))]


def coded(wave: np.ndarray, format: str, **options) -> np.ndarray:
    """Through a coder and back, at 44.1 kHz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, resample(wave, RATE, 44100), 44100, format=format, **options)
    buffer.seek(0)
    return resample(soundfile.read(buffer, dtype="float32")[0], 44100, RATE)


NOISE = np.random.RandomState(0).standard_normal(4 * RATE).astype(np.float32)
CHANGES = {
    "copied": lambda wave: wave,
    "quieter": lambda wave: 0.05 * wave,
    "cut elsewhere": lambda wave: wave[12345:],
    "mp3": lambda wave: coded(wave, "MP3", bitrate_mode="CONSTANT", compression_level=0.9),
    "vorbis": lambda wave: coded(wave, "OGG", subtype="VORBIS"),
    "telephone": lambda wave: resample(resample(wave, RATE, 8000), 8000, RATE),
    "noisy": lambda wave: wave + 0.1 * wave.std() * NOISE[: len(wave)],
    "16 bit": lambda wave: np.round(wave * 500) / 500,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(sentences, change):
    copies = [CHANGES[change](wave).astype(np.float32) for wave in sentences]
    prints = [fingerprint(wave) for wave in (*sentences, *copies)]
    names = [f"{number}" for number in range(len(prints))]
    found = find_repeats(prints, names, [0.0] * len(prints))
    pairs = {(repeat.first, repeat.second) for repeat in found}
    assert pairs == {(number, number + len(sentences)) for number in range(len(sentences))}
    expected = 12345 / RATE * FRAMES_PER_SECOND if change == "cut elsewhere" else 0
    assert all(abs(repeat.offset - expected) <= 4 for repeat in found)
    assert all(repeat.frames >= len(prints[repeat.second].bits) - 5 for repeat in found)


def test_a_part_is_found_in_the_middle_of_something_else(sentences):
    first = sentences[0]
    second = np.concatenate([sentences[1][:RATE], sentences[0][RATE : 3 * RATE]])
    aligned = find_repeats(
        [fingerprint(first[RATE : 3 * RATE]), fingerprint(second[RATE:])], "ab", [0, 0]
    )
    assert len(aligned) == 1 and aligned[0].frames >= 95


def test_overlapping_slices_of_one_file_are_no_repetition(sentences):
    wave = sentences[0]
    prints = [fingerprint(wave[: 3 * RATE]), fingerprint(wave[RATE:])]
    assert find_repeats(prints, ["a", "a"], [0.0, 1.0]) == []
    assert len(find_repeats(prints, ["a", "b"], [0.0, 1.0])) == 1
    assert (
        len(find_repeats(prints, ["a", "a"], [0.0, 60.0])) == 1
    )  # the same sound a minute later


def test_what_is_there_many_times_is_found_in_every_slice(sentences):
    prints = [fingerprint(wave) for wave in (*sentences[:3], *[sentences[5]] * 20)]
    found = find_repeats(prints, [str(number) for number in range(23)], [0.0] * 23)
    assert {number for repeat in found for number in repeat[:2]} == set(range(3, 23))


def test_silence_noise_and_short_sounds_match_nothing():
    silence = np.zeros(3 * RATE, np.float32)
    tiny = np.ones(100, np.float32)
    noises = [
        np.random.RandomState(seed).standard_normal(3 * RATE).astype(np.float32)
        for seed in range(4)
    ]
    prints = [
        fingerprint(wave)
        for wave in (silence, silence, tiny, tiny, np.zeros(0, np.float32), *noises)
    ]
    assert (
        find_repeats(
            prints, [str(number) for number in range(len(prints))], [0.0] * len(prints)
        )
        == []
    )
    assert find_repeats([], [], []) == []


def test_one_fingerprint_every_20_ms(sentences):
    bits, audible = fingerprint(sentences[0])
    assert (bits.dtype, len(bits)) == (np.uint32, len(sentences[0]) // 320)
    assert audible.shape == bits.shape and audible.mean() > 0.7
