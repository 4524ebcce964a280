"""The harmonic source of the generator."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rvc_jax.models.generator import sine_cycles


def test_source_phase_is_continuous_between_calls() -> None:
    f0 = np.random.default_rng(0).uniform(80, 300, (1, 200)).astype(np.float32)
    f0[:, 50:80] = 0
    whole = np.asarray(sine_cycles(jnp.asarray(f0), 16000, 160))
    cycles = f0[0, :120].astype(np.float64).sum() / 100
    phase = jnp.asarray([np.mod(cycles, 1.0)], jnp.float32)
    tail = np.asarray(sine_cycles(jnp.asarray(f0[:, 120:]), 16000, 160, phase))
    difference = np.mod(tail - whole[:, 120 * 160 :] + 0.5, 1.0) - 0.5
    assert np.abs(difference).max() < 1e-3
