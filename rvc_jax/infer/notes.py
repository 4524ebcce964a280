"""What a user should know of a conversion in which little or nothing was found."""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.audio.level import SILENT_PEAK, Level
from rvc_jax.config import FRAMES_PER_SECOND, ConvertConfig
from rvc_jax.infer.recording import Recording

_QUIET_PEAK = 10 ** (-50 / 20)
_DIGITAL_SILENCE = 1e-9
_MIN_SECONDS = 0.3
_MIN_SHARE = 0.02
_MIN_VOICED_FRAMES = 10


def describe_findings(
    recording: Recording, f0: np.ndarray, config: ConvertConfig, has_pitch: bool
) -> tuple[str, ...]:
    """Say where little or nothing was found in a recording, and what to try.

    Args:
      recording: what was converted.
      f0: its pitch [frames] in Hz, 0 is unvoiced.
      config: the options.
      has_pitch: whether the voice follows the pitch.

    Returns: a sentence per finding; none for usual speech.
    """
    if recording.level.is_silent:
        floor = 20 * math.log10(SILENT_PEAK)
        return (
            f"the recording is silent ({_describe_peak(recording.level)}, sound counts from "
            f"{floor:.0f} dB on), and so is the result; check the microphone, the channel and the "
            "track",
        )
    seconds = len(recording.audible) / FRAMES_PER_SECOND
    heard = np.count_nonzero(recording.audible) / FRAMES_PER_SECOND
    threshold = f"--silence-db {config.silence_db:g}"
    if not heard:
        return (
            f"nothing in the recording is above {threshold}, and the result is silent; "
            f"lower it, or leave it at {ConvertConfig.silence_db:g}",
        )
    notes = []
    if heard < seconds * _MIN_SHARE or heard < min(_MIN_SECONDS, seconds / 2):
        notes.append(
            f"sound was found in {heard:.1f} of {seconds:.1f} s, and the rest of the result is "
            f"silent; if speech is missing, lower {threshold}"
        )
    voiced = np.count_nonzero(f0)
    if has_pitch and config.f0_file is None and voiced < _MIN_VOICED_FRAMES:
        found = "no pitch was found" if not voiced else "hardly any pitch was found"
        notes.append(
            f"{found} in the recording: if it is speech, and not noise or a whisper, try "
            "another --f0-method"
        )
    if recording.level.speech < _QUIET_PEAK:
        notes.append(
            f"the recording is very quiet ({_describe_peak(recording.level)}): its noise was "
            "raised with the speech; record it louder if the result is noisy"
        )
    return tuple(notes)


def _describe_peak(level: Level) -> str:
    if level.peak < _DIGITAL_SILENCE:
        return "digital silence"
    return f"its sound peaks at {20 * math.log10(level.speech):.0f} dB of full scale"
