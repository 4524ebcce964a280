"""The options of a conversion, checked in one place before any work begins."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.audio.reading import EncodingOptions
from rvc_jax.config import FEATURE_RATE, ConvertConfig
from rvc_jax.errors import UserError

_RANGES = {
    "transpose": (-60, 60),
    "proposed_pitch_threshold": (50, 1200),
    "autotune_strength": (0, 1),
    "formant_shift": (-12, 12),
    "index_rate": (0, 1),
    "protect": (0, 0.5),
    "volume_envelope": (0, 1),
    "noise_scale": (0, 10),
    "silence_db": (-300, 0),
    "clean_strength": (0, 1),
}
_RATES = (8000, 192000)
_EXCLUSIVE = (
    ("auto_transpose", "proposed_pitch", "both choose the shift of the pitch"),
    ("f0_file", "auto_transpose", "the file says what pitch is spoken"),
    ("f0_file", "proposed_pitch", "the file says what pitch is spoken"),
    ("f0_file", "autotune", "the file says what pitch is spoken"),
)


def check_options(config: ConvertConfig, speakers: int | None = None) -> None:
    """Raises UserError for the first setting that is out of its range or contradicts another, or
    whose package lacks.

    speakers: how many the voice has, if that is known yet.
    """
    for name, (least, most) in _RANGES.items():
        check_range(name, getattr(config, name), least, most)
    if speakers is not None:
        check_range("speaker", config.speaker, 0, speakers - 1)
    if config.resample_rate:
        check_range("resample_rate", config.resample_rate, *_RATES)
    for one, other, reason in _EXCLUSIVE:
        if getattr(config, one) and getattr(config, other):
            raise UserError(
                f"{_option(one)} and {_option(other)} exclude each other: {reason}; leave one of them out"
            )
    _check_scale(config)
    if config.clean_audio:
        reduce_noise(
            np.zeros(1, np.float32), FEATURE_RATE, 0
        )  # says which package is missing, before hours of work


def coding(config: ConvertConfig) -> EncodingOptions:
    """How the result is written."""
    return EncodingOptions(config.resample_rate, config.bit_rate, config.bit_depth)


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises UserError, by the name of the option, unless a value is from `least` to `most`."""
    if not least <= value <= most:
        raise UserError(
            f"{_option(name)} {value:g} is out of range: it must be from {least} to {most}"
        )


def _check_scale(config: ConvertConfig) -> None:
    if config.autotune_scale == "chromatic" and config.autotune_key:
        raise UserError(
            f"--autotune-key {config.autotune_key} needs --autotune-scale major or minor"
        )
    if config.autotune_scale != "chromatic" and not config.autotune_key:
        raise UserError(
            f"--autotune-scale {config.autotune_scale} needs --autotune-key, the first note of the scale"
        )
    if config.autotune_key and not config.autotune:
        raise UserError("--autotune-key and --autotune-scale need --autotune")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
