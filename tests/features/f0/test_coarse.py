"""Coarse pitch against RVC's quantizer on every frame of a real recording."""

from pathlib import Path

import jax
import numpy as np
import pytest

from rvc_jax.features.f0.coarse import coarse_pitch

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "function", [coarse_pitch, jax.jit(coarse_pitch)], ids=["numpy", "jax"]
)
def test_equals_rvcs_quantizer(function, dtype):
    f0 = np.load(GOLDEN / "pitch_fine.npy").astype(dtype)
    coarse = np.asarray(function(f0))
    assert coarse.dtype == np.int32
    np.testing.assert_array_equal(coarse, np.load(GOLDEN / "pitch_coarse.npy"))


def test_limits():
    f0 = np.array([[0.0, 1.0, 49.9, 50.0], [1099.9, 1100.0, 2000.0, 1e6]], np.float32)
    np.testing.assert_array_equal(coarse_pitch(f0), [[1, 1, 1, 1], [255, 255, 255, 255]])


def test_every_bin_is_reached_in_order():
    coarse = coarse_pitch(np.linspace(50, 1100, 20000))
    assert (np.diff(coarse) >= 0).all() and set(coarse.tolist()) == set(range(1, 256))
