"""Voices for notebooks: one call to load, one to convert, arrays in and out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from public_files import small_voice

import rvc_jax
from rvc_jax.audio.reading import load
from rvc_jax.errors import UserError
from rvc_jax.voices.formats import native


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported voice that needs nothing downloaded."""
    sizes = {"resblock_kernels": (3, 5), "resblock_dilations": ((1,), (3,))}
    model = small_voice("nano", **sizes)
    model = dataclasses.replace(
        model, content_encoder="whisper-tiny", speakers=("Ada", "Bo", "Cy")
    )
    path = tmp_path_factory.mktemp("voices") / "ada"
    rows = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    native.write_folder(path, dataclasses.replace(model, index=rows))
    return path


@pytest.fixture(scope="module")
def voice(folder: Path) -> rvc_jax.Voice:
    return rvc_jax.load_voice(folder, index_rate=0.5)


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[:40000]


def test_properties(voice: rvc_jax.Voice, folder: Path) -> None:
    assert (voice.sample_rate, voice.has_pitch, voice.speakers) == (
        16000,
        True,
        ("Ada", "Bo", "Cy"),
    )
    assert voice.index_rows == 50 and repr(voice) == "<voice v2 at 16000 Hz, index of 50 rows>"
    assert rvc_jax.load_voice(folder, index="none").index_rows == 0
    np.save(folder.parent / "other.npy", np.ones((9, 384), np.float16))
    assert rvc_jax.load_voice(folder, index=folder.parent / "other.npy").index_rows == 9


def test_arrays_in_and_out(voice: rvc_jax.Voice, clip: np.ndarray) -> None:
    wave = voice.convert(clip, 16000)
    assert wave.dtype == np.float32 and wave.shape == (40000,) and np.abs(wave).max() > 1e-3
    same = voice.convert(np.stack([clip, clip]), 16000)
    integers = voice.convert((clip * 32767).astype(np.int16), 16000)
    np.testing.assert_allclose(same, wave, atol=1e-4)
    assert np.abs(integers - wave).max() < 0.05 * np.abs(wave).max()
    assert len(voice.convert(clip, 20000)) == 32000


def test_a_stream_shares_the_voice(voice: rvc_jax.Voice, clip: np.ndarray) -> None:
    stream = voice.stream(16000, transpose=3, autotune=True)
    parts = [stream.push(clip[begin : begin + 8000]) for begin in range(0, len(clip), 8000)]
    wave = np.concatenate([*parts, stream.flush()])
    assert wave.shape == (40000,) and np.abs(wave).max() > 1e-3 and stream.latency_seconds < 0.6
    with pytest.raises(UserError, match="--formant-shift can't be followed in a stream"):
        voice.stream(16000, formant_shift=2.0)


def test_options_hold_for_one_call(voice: rvc_jax.Voice, clip: np.ndarray) -> None:
    first = voice.convert(clip, 16000)
    assert np.abs(voice.convert(clip, 16000, transpose=12) - first).max() > 1e-5
    assert np.abs(voice.convert(clip, 16000, speaker=2) - first).max() > 1e-5
    assert np.abs(voice.convert(clip, 16000, index_rate=0) - first).max() > 1e-5
    np.testing.assert_array_equal(voice.convert(clip, 16000), first)


def test_other_options_compile_nothing(voice: rvc_jax.Voice, clip: np.ndarray) -> None:
    voice.convert(clip, 16000)
    compiled = []

    def listener(event: str, seconds: float, **_: object) -> None:
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        voice.convert(
            clip, 16000, transpose=3.5, protect=0.1, speaker=1, seed=3, noise_scale=0.1
        )
        voice.convert(clip[:30000], 16000, index_rate=0)
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert compiled == []


def test_bad_audio_and_options_are_refused(voice: rvc_jax.Voice, folder: Path) -> None:
    good = np.zeros(16000, np.float32)
    for audio, message in (
        (np.zeros((16000, 2)), "Transpose the array"),
        (np.zeros((2, 2, 2)), "is an array"),
        (np.array(["a"]), "is an array"),
        (np.zeros(16000, complex), "is an array"),
        (np.zeros((0, 16000)), "no channels"),
        (np.full(16000, np.nan), "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            voice.convert(audio, 16000)
    for rate in (0, -1, 44.1, 10**9):
        with pytest.raises(UserError, match="a sample rate is"):
            voice.convert(good, rate)
    with pytest.raises(TypeError, match="no option 'pitch'; options are transpose, "):
        voice.convert(good, 16000, pitch=3)
    with pytest.raises(TypeError, match="no option 'pitch'"):
        rvc_jax.load_voice(folder, pitch=3)
    with pytest.raises(UserError, match="protect"):
        voice.convert(good, 16000, protect=7)
    with pytest.raises(AttributeError, match="load_voices"):
        rvc_jax.load_voices  # noqa: B018


def test_importing_the_package_is_light() -> None:
    code = "import sys, rvc_jax; assert 'load_voice' in dir(rvc_jax); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"jax", "numpy", "flax", "scipy", "tyro"} & set(done.stdout.split())
