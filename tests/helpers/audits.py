"""Datasets for audits: real speech, with one fault at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.config import PRESETS, PrepareConfig, to_dict
from rvc_jax.data.audit.advice import Advice, advise
from rvc_jax.data.audit.audit import Audit, measure
from rvc_jax.data.dataset import DatasetInfo

RATE = 48000
Files = dict[str, np.ndarray]
"""Waves at 48 kHz by file name."""


def describe_dataset(
    preset: str, files: int, minutes: float, slices: int, speakers: tuple[str, ...]
) -> DatasetInfo:
    return DatasetInfo(
        preset=preset,
        sample_rate=PRESETS[preset].audio.sample_rate,
        content_encoder="whisper-tiny",
        content_channels=384,
        content_fingerprint="",
        f0_method="swift",
        speakers=speakers,
        speaker_minutes=(minutes / len(speakers),) * len(speakers),
        speaker_median_f0=(200.0,) * len(speakers),
        files=files,
        source_minutes=minutes,
        speech_minutes=minutes,
        train_slices=slices,
        holdout_slices=0,
        holdout_seconds=0.0,
        dropped=(),
        notes=(),
        config=to_dict(PrepareConfig(preset=preset)),
        fingerprint="",
        median_f0=200.0,
    )


def make_records(
    files: Files, preset: str, held_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield slices of 3 s as preparation makes them: high-passed, with the same peak."""
    rate = PRESETS[preset].audio.sample_rate
    for name, original in files.items():
        wave = high_pass(resample(original, RATE, rate), rate)
        for start in range(0, max(len(wave) - rate, 1), 3 * rate):
            part = wave[start : start + 3 * rate]
            part = part[: len(part) // (rate // 100) * (rate // 100)]
            melody = 200 * 2 ** (0.4 * np.sin(np.arange(len(part) * 100 // rate) / 20))
            record = {"wave": 0.9 * part / max(np.abs(part).max(), 1e-9), "f0": melody}
            split = "holdout" if name in held_out else "train"
            yield split, record | {"speaker": 0, "source": name, "start": start / rate}


def audit_files(files: Files, preset: str = "48k", held_out: tuple[str, ...] = ()) -> Audit:
    made = list(make_records(files, preset, held_out))
    minutes = sum(map(len, files.values())) / RATE / 60
    return measure(
        describe_dataset(preset, len(files), minutes, len(made), ("voice",)), made, "test"
    )


def advice_by_topic(audit: Audit) -> dict[str, Advice]:
    return {advice.topic: advice for advice in advise(audit)}
