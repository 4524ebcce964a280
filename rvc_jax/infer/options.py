"""The options of a conversion, checked in one place before any work begins."""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.audio.writing import EncodingOptions, check_encoding
from rvc_jax.config import FEATURE_RATE, MAX_CHANNEL, MAX_TRACK, ConvertConfig, option
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
    "track": (0, MAX_TRACK),
    "channel": (0, MAX_CHANNEL),
}
_RATES = (8000, 192000)
_EXCLUSIVE = (
    ("auto_transpose", "proposed_pitch", "both choose the shift of the pitch"),
    ("f0_file", "auto_transpose", "the file states the output's pitch"),
    ("f0_file", "proposed_pitch", "the file states the output's pitch"),
    ("f0_file", "autotune", "the file states the output's pitch"),
)


def check_options(config: ConvertConfig, speakers: int | None = None) -> None:
    """Check ranges, combinations and packages.

    Args:
      config: The options.
      speakers: Number of speakers of the voice, if that is known yet.

    Raises:
      UserError: for the first option that is out of its range, contradicts another one, or needs a
        package that is not installed.
    """
    for name, (least, most) in _RANGES.items():
        value = getattr(config, name)
        if value is not None:  # the voice's own
            check_range(name, value, least, most)
    if speakers is not None:
        check_range("speaker", config.speaker, 0, speakers - 1)
    if config.resample_rate:
        check_range("resample_rate", config.resample_rate, *_RATES)
    for one, other, reason in _EXCLUSIVE:
        if getattr(config, one) and getattr(config, other):
            raise UserError(
                f"{option(one)} and {option(other)} exclude each other: {reason}; "
                "leave one of them out"
            )
    _check_scale(config)
    if config.channel and config.stereo == "keep-side":
        raise UserError(
            "--channel and --stereo keep-side exclude each other: the side is of two channels; "
            "leave one of them out"
        )
    if config.clean_audio:
        # Fails where the package is missing, before hours of work.
        reduce_noise(np.zeros(1, np.float32), FEATURE_RATE, 0)


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises UserError, with the name of the option, unless a value is in least..most."""
    if not least <= value <= most:
        raise UserError(
            f"{option(name)} {value:g} is out of range: it must be from {least} to {most}"
        )


def check_output_format(extension: str, config: ConvertConfig) -> None:
    """Raises UserError for a file extension that can't be written as the options ask for."""
    check_encoding(
        extension, EncodingOptions(config.resample_rate, config.bit_rate, config.bit_depth)
    )


def file_encoding(config: ConvertConfig) -> EncodingOptions:
    """How a result is encoded. Its sample rate is that of the conversion, which has resampled."""
    return EncodingOptions(bit_rate=config.bit_rate, bit_depth=config.bit_depth)


def parse_speaker_mix(config: ConvertConfig, speakers: int) -> dict[int, float]:
    """The shares of the speakers by number; together they are 1.

    Args:
      config: The options; without a mixture, its one speaker has a share of 1.
      speakers: Number of speakers of the voice.

    Raises:
      UserError: The mixture is malformed, or names a speaker that the voice does not have.
    """
    if not config.speaker_mix:
        return {config.speaker: 1.0}
    try:
        parts = [part.split(":") for part in config.speaker_mix.split(",")]
        shares = {int(number): float(share) for number, share in parts}
        if len(shares) < len(parts) or not all(
            0 < share < math.inf for share in shares.values()
        ):
            raise ValueError
    except ValueError:
        raise UserError(
            f"--speaker-mix {config.speaker_mix!r} is not a mixture: write numbers of speakers, "
            "each once, and their shares above 0, as in 0:0.7,1:0.3"
        ) from None
    unknown = [number for number in shares if not 0 <= number < speakers]
    if unknown:
        raise UserError(
            f"--speaker-mix {config.speaker_mix}: there is no speaker {unknown[0]}, "
            f"only 0 to {speakers - 1}"
        )
    total = sum(shares.values())
    return {number: share / total for number, share in shares.items()}


def _check_scale(config: ConvertConfig) -> None:
    if config.autotune_scale == "chromatic" and config.autotune_key:
        raise UserError(
            f"--autotune-key {config.autotune_key} needs --autotune-scale major or minor"
        )
    if config.autotune_scale != "chromatic" and not config.autotune_key:
        raise UserError(
            f"--autotune-scale {config.autotune_scale} needs --autotune-key, "
            "the first note of the scale"
        )
    if config.autotune_key and not config.autotune:
        raise UserError("--autotune-key and --autotune-scale need --autotune")
