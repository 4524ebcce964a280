"""Coarse pitch: the number by which the prior encoder looks up its pitch embedding."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PITCH_BINS, PITCH_MAX_HZ, PITCH_MIN_HZ


def mel_scale(hz: float) -> float:
    """Mel scale of O'Shaughnessy with the natural logarithm."""
    return 1127.0 * math.log1p(hz / 700.0)


def coarse_pitch(f0: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Quantise pitch on a mel scale, as RVC does.

    Args:
      f0: Hz, any shape; 0 is unvoiced. A numpy array is computed with numpy, anything else with
          JAX.

    Returns: int32, same shape: 1 (unvoiced, or at most 50 Hz) to 255 (1100 Hz and above). Halves
    round to even.
    """
    xp = np if isinstance(f0, np.ndarray) else jnp
    low = mel_scale(PITCH_MIN_HZ)
    high = mel_scale(PITCH_MAX_HZ)
    mel = 1127.0 * xp.log1p(f0 / 700.0)
    bins = (mel - low) * ((PITCH_BINS - 2) / (high - low)) + 1
    return xp.rint(xp.clip(bins, 1, PITCH_BINS - 1)).astype(xp.int32)
