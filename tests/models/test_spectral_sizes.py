"""Limits of the small preset's networks."""

from __future__ import annotations

import dataclasses
import math

import pytest
from micro import MICRO_SMALL

from rvc_jax.config import PRESETS, Preset
from rvc_jax.models.spectral_sizes import check_spectra, check_spectral_sizes, count_parameters
from rvc_jax.models.synthesizer import build_synthesizer

SMALL = PRESETS["small"]


@pytest.mark.parametrize("preset", [SMALL, MICRO_SMALL], ids=["small", "micro"])
def test_parameters_are_counted_as_the_network_has_them(preset: Preset) -> None:
    shapes = build_synthesizer(preset.generator, preset.audio).shapes
    assert count_parameters(preset.generator, preset.audio) == sum(
        math.prod(shape) for shape in shapes.values()
    )
    check_spectral_sizes(preset.generator, preset.audio)
    check_spectra(preset.discriminator, preset.audio)


def test_a_segment_must_hold_half_a_window() -> None:
    short = dataclasses.replace(SMALL.audio, segment_frames=3)
    with pytest.raises(ValueError, match="too short for a window of 1024 samples"):
        check_spectra(SMALL.discriminator, short)
    check_spectra(SMALL.discriminator, dataclasses.replace(short, segment_frames=4))


def test_windows_and_rates_are_limited() -> None:
    for rate, steps in ((192_000, 1), (200_000, 2), (16_050, 1)):
        audio = dataclasses.replace(SMALL.audio, sample_rate=rate)
        sizes = dataclasses.replace(SMALL.generator, steps_per_frame=steps)
        with pytest.raises(ValueError, match=r"windows have 7680|do not fit"):
            check_spectral_sizes(sizes, audio)
    audio = dataclasses.replace(SMALL.audio, sample_rate=48_000)
    check_spectral_sizes(SMALL.generator, audio)
