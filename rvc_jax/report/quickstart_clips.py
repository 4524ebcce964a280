"""The sounds of the quick start: what went in, the voice to reach, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import decode, find_audio
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.report.run_page import Clip

_SAMPLE_SECONDS = 7.0


def read_target_sample(folder: Path, rate: int) -> tuple[np.ndarray, int]:
    """Read some seconds of the target speaker, at the rate of the voice.

    folder: recordings; the longest file is taken. rate: sample rate in Hz.

    Returns: [samples], and the rate.

    Raises:
      AudioError: the file can't be decoded.
    """
    longest = max(find_audio(folder), key=lambda path: path.stat().st_size)
    channels, own_rate = decode(longest)
    wave = channels.mean(axis=0)[: round(_SAMPLE_SECONDS * own_rate)]
    return resample(wave, own_rate, rate), rate


def describe_sounds(
    source: tuple[np.ndarray, int],
    target: tuple[np.ndarray, int],
    converted: ConvertedAudio,
    base: ConvertedAudio,
    steps: int,
) -> Sequence[Clip]:
    """Put the sounds of a quick start in the order in which to listen to them.

    Args:
      source, target: waves [samples] with their rates in Hz.
      converted: the source in the trained voice.
      base: the source in the base voice alone, shifted by as much.
      steps: of the training.
    """
    return [
        Clip(
            "The recording (source)",
            "Another speaker, whose words and melody the conversion keeps.",
            *source,
        ),
        Clip(
            "The voice to reach (target)",
            "The speaker of the bundled recordings, saying something else.",
            *target,
        ),
        Clip(
            "Converted",
            f"The words of the first recording in the voice of the second, after {steps} steps of "
            f"training. The pitch was shifted by {converted.transpose:+g} semitones.",
            converted.to_array(),
            converted.rate,
        ),
        Clip(
            "Converted by the base voice alone",
            "What the training started from: the mean of the speakers of the base voice, which is "
            "nobody's voice. What differs from the sound above was learned from the recordings.",
            base.to_array(),
            base.rate,
        ),
    ]
