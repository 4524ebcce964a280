"""A long file is opened block by block on disk: its slices have the features that they have in one
piece."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from rvc_jax.audio import blocks as stream
from rvc_jax.audio import reading
from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.reading import decode, find_audio, load
from rvc_jax.config import FEATURE_RATE, PrepareConfig
from rvc_jax.data.recording import Recording, find_slices, open_recording, read_slice
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.features.content import load_content_encoder
from rvc_jax.features.f0 import load_pitch_extractor

CONFIG = PrepareConfig()
RATE = 40000
FILE_RATE = 44100
WINDOW = 336 * 160


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """40 s of speech in stereo."""
    speech = np.concatenate(
        [load(file, FILE_RATE) for file in find_audio(find_bundled_sample("voice"))]
    )[: 40 * FILE_RATE]
    path = tmp_path_factory.mktemp("long") / "speech.wav"
    soundfile.write(
        path, speech[:, None] * np.array([0.5, 0.4], np.float32), FILE_RATE, "FLOAT"
    )
    return path


@pytest.fixture(scope="module")
def in_blocks(path, tmp_path_factory) -> Recording:
    """Opened as hours of sound are: on disk, in blocks that end anywhere in a slice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK_VALUES", 50_021)
        patch.setattr(stream, "IN_MEMORY_SECONDS", 0)
        recording = open_recording(path, RATE, CONFIG, tmp_path_factory.mktemp("scratch"))
    assert isinstance(recording.wave, np.memmap)
    return recording


@pytest.fixture(scope="module")
def in_one_piece(path, in_blocks) -> Recording:
    channels, rate = decode(path)
    wave = high_pass(resample(channels.mean(axis=0), rate, RATE), RATE)
    return Recording(wave, RATE, in_blocks.broken, in_blocks.clipped)


def batch(recording: Recording, cuts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The slices as extractors get them."""
    audio = np.zeros((16, WINDOW), np.float32)
    lengths = np.full(16, WINDOW)
    for row, cut in enumerate(cuts[:16]):
        samples = resample(read_slice(recording, *cut, CONFIG), RATE, FEATURE_RATE)[:WINDOW]
        audio[row, : len(samples)] = samples
        lengths[row] = len(samples)
    return audio, lengths


def test_slices_and_features_are_those_of_the_file_in_one_piece(in_blocks, in_one_piece):
    found = find_slices(in_blocks, CONFIG)
    assert found == find_slices(in_one_piece, CONFIG)
    cuts = [(start, stop) for start, stop, reason in found if reason is None]
    assert len(cuts) > 10
    blocks, whole = (batch(recording, cuts) for recording in (in_blocks, in_one_piece))
    np.testing.assert_allclose(blocks[0], whole[0], atol=1e-5)
    for extract in (load_pitch_extractor("swift"), load_content_encoder("whisper-tiny")):
        ours = extract(*blocks)
        expected = extract(*whole)
        rows = slice(0, len(cuts))
        assert np.linalg.norm(ours[rows] - expected[rows]) < 1e-3 * np.linalg.norm(
            expected[rows]
        )
