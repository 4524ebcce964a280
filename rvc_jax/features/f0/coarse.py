"""Coarse pitch: the index of the prior encoder's pitch embedding."""

from __future__ import annotations

import math
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PITCH_BINS, PITCH_MAX_HZ, PITCH_MIN_HZ


def mel_scale(hz: float) -> float:
    """Convert Hz to O'Shaughnessy's mel scale with the natural logarithm."""
    return 1127.0 * math.log1p(hz / 700.0)


@overload
def coarse_pitch(f0: np.ndarray) -> np.ndarray: ...
@overload
def coarse_pitch(f0: jax.Array) -> jax.Array: ...
def coarse_pitch(f0: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Quantize pitch on a mel scale, as RVC does.

    Args:
      f0: Hz, any shape; 0 is unvoiced. numpy computes a numpy array, JAX anything else.

    Returns: int32, same shape: 1 (unvoiced, or at most 50 Hz) to 255 (1100 Hz and above). Halves
      round to even.
    """
    xp = np if isinstance(f0, np.ndarray) else jnp
    low = mel_scale(PITCH_MIN_HZ)
    high = mel_scale(PITCH_MAX_HZ)
    mel = 1127.0 * xp.log1p(f0 / 700.0)
    bins = (mel - low) * ((PITCH_BINS - 2) / (high - low)) + 1
    return xp.rint(xp.clip(bins, 1, PITCH_BINS - 1)).astype(xp.int32)
