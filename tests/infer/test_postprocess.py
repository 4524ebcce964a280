"""What comes after the voice, in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.audio import blocks
from rvc_jax.audio.loudness import match_volume_envelope
from rvc_jax.infer.postprocess import apply_gate, fit_length, postprocess
from rvc_jax.infer.recording import Recording

NOISE = np.random.default_rng(0).standard_normal(120000).astype(np.float32)


def in_blocks(wave: np.ndarray, size: int) -> list[np.ndarray]:
    return [wave[a:b] for a, b in blocks.block_ranges(len(wave), size)]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_gate_is_interpolated_linearly(size: int) -> None:
    gate = np.random.default_rng(1).random(30).astype(np.float32)
    wave = NOISE[: 29 * 40 + 1]
    expected = wave * np.interp(np.arange(len(wave)) / 40, np.arange(30), gate)
    np.testing.assert_allclose(
        np.concatenate(list(apply_gate(in_blocks(wave, size), gate, 4000))), expected, atol=1e-5
    )


@pytest.mark.parametrize("length", [1, 99, 100, 101, 250])
def test_the_length_is_cut_or_padded(length: int) -> None:
    wave = NOISE[:200]
    expected = np.pad(wave, (0, 50))[:length]
    np.testing.assert_array_equal(
        np.concatenate(list(fit_length(in_blocks(wave, 100), length))), expected
    )


@pytest.mark.parametrize("on_disk", [False, True])
def test_loudness_and_peak_in_blocks(
    on_disk: bool, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 7000)
    monkeypatch.setattr(blocks, "IN_MEMORY_SECONDS", 1 if on_disk else 100)
    source = (0.2 * NOISE * np.linspace(0.1, 1, len(NOISE))).astype(np.float32)
    wave = 0.1 * NOISE[::-1]
    other = 0.7 * np.roll(NOISE, 5)
    stored = [blocks.collect_blocks(in_blocks(x, 999), 16000, tmp_path) for x in (wave, other)]
    assert isinstance(stored[0], np.memmap) == on_disk
    recording = Recording(source, 1.0, -60.0, len(source), 16000, 2, side=stored[1])
    converted = postprocess(stored[0], recording, 0.25, 16000, 3.0)
    result = np.concatenate(list(converted.blocks()), axis=1)
    middle = match_volume_envelope(source, 16000, wave, 16000, 0.25)
    expected = np.stack([middle + other, middle - other])
    expected *= 0.99 / np.abs(expected).max()
    assert (converted.samples, converted.channels) == (len(wave), 2)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_array_equal(converted.to_array(), result)
