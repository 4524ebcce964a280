"""The STFT distance beside librosa's spectrograms."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from rvc_jax.metrics.stft import RESOLUTIONS, stft_distance


def by_librosa(rendered: np.ndarray, target: np.ndarray) -> float:
    total = 0.0
    for transform, hop, window in RESOLUTIONS:
        ours, theirs = (
            np.sqrt(
                np.maximum(
                    np.abs(
                        librosa.stft(
                            wave.astype(np.float64),
                            n_fft=transform,
                            hop_length=hop,
                            win_length=window,
                            pad_mode="constant",
                        )
                    )
                    ** 2,
                    1e-7,
                )
            )
            for wave in (rendered, target)
        )
        total += np.linalg.norm(theirs - ours) / np.linalg.norm(theirs) + np.mean(
            np.abs(np.log(theirs / ours))
        )
    return total / len(RESOLUTIONS)


def test_the_distance_of_spectrograms_is_that_of_every_row_alone() -> None:
    random = np.random.default_rng(0)
    target = 0.2 * random.standard_normal((3, 24000)).astype(np.float32)
    rendered = 0.7 * target + 0.05 * random.standard_normal(target.shape).astype(np.float32)
    samples = np.array([24000, 9001, 12000])
    rendered[2] = 0.0
    distances = np.asarray(stft_distance(rendered, target, samples))
    for row, length in enumerate(samples):
        assert distances[row] == pytest.approx(
            by_librosa(rendered[row, :length], target[row, :length]), rel=1e-4
        )
    np.testing.assert_allclose(stft_distance(target, target, samples), 0, atol=1e-6)
    silence = np.asarray(stft_distance(rendered, 0 * target, samples))
    assert np.isfinite(silence).all() and silence[2] == 0
