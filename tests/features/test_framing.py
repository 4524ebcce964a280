from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.audio.spectrogram import frames
from rvc_jax.features.framing import pad_rows_reflect


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=4),
    left=st.integers(0, 40),
    right=st.integers(0, 40),
    behind=st.integers(0, 9),
)
def test_reflect_after_pads_every_row_as_numpy_pads_it_alone(lengths, left, right, behind):
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(len(lengths), max(lengths) + behind)).astype(
        np.float32
    )  # noise behind the ends, too
    padded = np.asarray(pad_rows_reflect(audio, np.array(lengths), left, right))
    assert padded.shape == (len(lengths), left + audio.shape[1] + right)
    for row, length, alone in zip(padded, lengths, audio, strict=True):
        expected = np.pad(alone[:length], (left, right), mode="reflect")
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()


def test_reflect_after_is_compiled_once_for_all_lengths():
    compiled = jax.jit(pad_rows_reflect, static_argnums=(2, 3))
    audio = np.ones((2, 50), np.float32)
    for lengths in ([50, 20], [2, 49]):
        compiled(audio, np.array(lengths), 5, 8)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("size", [1, 7, 10, 25])
@pytest.mark.parametrize("hop", [1, 5, 10, 12])
@pytest.mark.parametrize("samples", [25, 26, 49, 60])
def test_frames_are_all_windows_that_fit(size, hop, samples):
    audio = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)
    expected = np.lib.stride_tricks.sliding_window_view(audio, size, axis=1)[:, ::hop]
    np.testing.assert_array_equal(np.asarray(frames(audio, size, hop)), expected)


def test_less_than_one_frame_is_refused():
    with pytest.raises(ValueError, match="less than one frame"):
        frames(np.zeros((1, 9), np.float32), 10, 5)
