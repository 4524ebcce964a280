"""The clip by which a written voice is compared with its model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_runs import ROWS, make_model

from rvc_jax.voices.export_check import ExportCheck, spectral_difference


def test_the_difference_is_in_decibels() -> None:
    wave = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    assert spectral_difference(wave, wave) == 0
    assert spectral_difference(2 * wave, wave) == pytest.approx(6.0206, abs=1e-3)
    assert spectral_difference(wave * np.float32(1.001), wave) == pytest.approx(
        0.00868, abs=1e-4
    )
    assert spectral_difference(wave[1:], wave) == np.inf
    assert spectral_difference(wave * np.nan, wave) == np.inf
    assert spectral_difference(0 * wave, 0 * wave) == 0


def test_clip_depends_on_every_part() -> None:
    model = make_model(1)
    # Upsampling layers begin so faint that little but the source is audible.
    loud = model.weights | {
        f"dec.ups.{i}.weight_g": 30 * model.weights[f"dec.ups.{i}.weight_g"] for i in range(3)
    }
    clip = ExportCheck(dataclasses.replace(model, weights=loud, index=ROWS))
    assert (
        clip.wave.shape == (64 * 160,)
        and np.isfinite(clip.wave).all()
        and clip.wave.std() > 1e-4
    )
    assert np.array_equal(clip.content[::2], ROWS[14:46].astype(np.float32))
    for part in ("enc_p.", "flow.", "dec.", "emb_g."):
        changed = {name: array + 0.1 for name, array in loud.items() if name.startswith(part)}
        assert spectral_difference(clip.render(loud | changed), clip.wave) > 0.01, part
    assert ExportCheck(model).wave.shape == clip.wave.shape
