"""How good a conversion is: every figure of `infer.figures` that can be had, a sentence for every
one that cannot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.audio.loudness import integrated_loudness
from rvc_jax.audio.reading import find_audio
from rvc_jax.config import FEATURE_RATE, EvaluateConfig
from rvc_jax.errors import UserError
from rvc_jax.metrics import asr, dnsmos, speaker
from rvc_jax.metrics import signal as quality
from rvc_jax.metrics.clips import Clip, ConversionFiles, pair_files, read_clip
from rvc_jax.metrics.conversion_table import ConversionMetrics, mean_metrics
from rvc_jax.metrics.mcd import mel_cepstral_distortion
from rvc_jax.metrics.pitch import (
    MIN_VOICED_FRAMES,
    PITCH_METHOD,
    align,
    compare_tracks,
    estimate_delay,
    track_pitch,
)

TARGET_FILES = 12
TARGET_SECONDS = 10.0
"""Recordings of the target speaker that are heard, spread over a folder, and how much of each."""

_PIECE = 10 * FEATURE_RATE
_PIECES = 4  # per call: one shape for everything
# seconds
_MIN_SPEECH_SECONDS = 1.6
_MIN_DNSMOS_SECONDS = 1.0
_MAX_LENGTH_DIFFERENCE = 0.1
_MAX_PARALLEL_SECONDS = 60.0

Listener = Callable[[int, int, str], None]
"""Is told how many conversions are done, of how many, and the one that is being measured."""


@dataclasses.dataclass(frozen=True)
class MeasuredConversion:
    """One conversion."""

    name: str
    figures: ConversionMetrics
    notes: tuple[str, ...] = ()
    """Why a figure is missing, or what to know about one."""
    transcripts: dict[str, str] = dataclasses.field(default_factory=dict)
    """What was understood, of `source` and `converted`."""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """One conversion or more."""

    mean: ConversionMetrics
    """Mean of every figure over the conversions that have it."""
    conversions: tuple[MeasuredConversion, ...]
    notes: tuple[str, ...]
    """What holds for all of them."""
    methods: dict[str, str]
    """What pitch, speakers, opinions and words were found with."""


def measure_conversions(
    converted: Path,
    source: Path | None = None,
    target: Path | None = None,
    reference: Path | None = None,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 frozen
    listener: Listener = lambda done, total, name: None,
) -> ConversionReport:
    """Measure conversions against their sources and their target speaker.

    Args:
      converted, source: files, or folders whose recordings have equal names.
      target: a recording of the target speaker, or a folder of them.
      reference: the target speaker saying the same words, as `source`; without `target`, the target
          too.

    Raises:
      UserError: nothing to compare with, or what cannot be read; of a folder, what cannot be is
          left out with a note.
    """
    if source is None and target is None and reference is None:
        raise UserError(
            "nothing to compare with: name --source, --target or --reference beside --converted"
        )
    if config.start < 0 or not 1 <= config.seconds <= 3600:
        raise UserError("--start must be 0 or more, and --seconds between 1 and 3600")
    files, notes = pair_files(converted, source, reference)
    sounds, unheard = _read_target_clips(target or reference)
    meter = ConversionMeter(config, sounds)
    measured, notes = _measure_all(meter, files, [*notes, *unheard], listener)
    everywhere = dict.fromkeys([*notes, *meter.notes])
    return ConversionReport(
        mean_metrics(item.figures for item in measured),
        tuple(measured),
        tuple(everywhere),
        meter.methods,
    )


def _measure_all(
    meter: ConversionMeter, files: list[ConversionFiles], notes: list[str], listener: Listener
) -> tuple[list[MeasuredConversion], list[str]]:
    """One file that fails is the caller's mistake; of several, the others are measured."""
    measured = []
    failures = []
    for done, item in enumerate(files):
        listener(done, len(files), item.name)
        try:
            measured.append(meter(item))
        except UserError as error:
            failures.append(str(error))
    if not measured:
        raise UserError(failures[0])
    listener(len(files), len(files), "")
    return measured, [*notes, *failures]


def _read_target_clips(target: Path | None) -> tuple[list[Clip], list[str]]:
    """The beginnings of some recordings of the target speaker, and a sentence for each that cannot
    be measured."""
    if target is None:
        return [], []
    if not target.is_dir():
        return [read_clip(target, 0.0, TARGET_FILES * TARGET_SECONDS)], []
    paths = find_audio(target)
    if not paths:
        raise UserError(f"{target} holds no recordings")
    chosen = np.unique(np.linspace(0, len(paths) - 1, TARGET_FILES).round().astype(int))
    sounds = []
    failures = []
    for i in chosen:
        try:
            sounds.append(read_clip(paths[i], 0.0, TARGET_SECONDS))
        except UserError as error:
            failures.append(str(error))
    if not sounds:
        raise UserError(failures[0])
    return sounds, failures


class ConversionMeter:
    """The models that conversions are measured with, kept warm, and the target speaker."""

    def __init__(self, config: EvaluateConfig, target: list[Clip]):
        """target: recordings of the target speaker, if there are any."""
        self._config = config
        self._speaker = speaker.SpeakerEncoder.find()
        self._mos = dnsmos.Dnsmos.find()
        self._recognizer = asr.SpeechRecognizer.find()
        self.notes = self._missing(target)
        heard = [sound for sound in target if not sound.is_silent]
        self._target_speaker = (
            self._embedding([sound.speech16k for sound in heard]) if self._speaker else None
        )
        if target and self._speaker and self._target_speaker is None:
            self.notes.append(
                "speaker similarity is not measured: speech is heard in less than 1.6 s of the target"
            )
        bands = [band for band in (sound.bandwidth() for sound in heard) if band is not None]
        self._target_bandwidth = float(np.median(bands)) if bands else None

    @property
    def methods(self) -> dict[str, str]:
        """What is measured with which model; what is not measured is left out."""
        found = {"pitch": PITCH_METHOD}
        if self._target_speaker is not None:
            found["speaker"] = speaker.WEIGHTS
        if self._mos:
            found["opinion"] = dnsmos.WEIGHTS
        if self._recognizer:
            found["words"] = self._recognizer.name
        return found

    def __call__(self, files: ConversionFiles) -> MeasuredConversion:
        """Measures one conversion. Raises UserError if one of its recordings cannot be measured."""
        config = self._config
        notes = []
        converted = read_clip(files.converted, config.start, config.seconds)
        source = files.source and read_clip(files.source, config.start, config.seconds)
        figures: dict[str, Any] = self._facts(converted)
        transcripts: dict[str, str] = {}
        if source:
            figures |= {
                f"source_{name}": value
                for name, value in _level_metrics(source).items()
                if name != "peak_dbfs"
            }
        if converted.is_silent or (source and source.is_silent):
            which = "the conversion" if converted.is_silent else "the source"
            return MeasuredConversion(
                files.name,
                ConversionMetrics(**figures),
                (f"{which} is silent: nothing but its level is measured",),
            )
        figures |= self._opinions(converted, source, notes) | self._similarities(
            converted, source, notes
        )
        if source:
            figures |= _pitch_and_delay_metrics(source, converted, notes)
            figures |= self._words(source, converted, transcripts, notes)
        if files.reference:
            figures |= _distortion_metrics(
                read_clip(files.reference, config.start, _MAX_PARALLEL_SECONDS),
                converted,
                notes,
            )
        return MeasuredConversion(
            files.name, ConversionMetrics(**figures), tuple(notes), transcripts
        )

    def _missing(self, target: list[Clip]) -> list[str]:
        """A sentence for every model that is not here."""
        notes = []
        if self._speaker is None:
            notes.append(f"speaker similarity is not measured: {speaker.INSTALL_HINT}")
        elif not target:
            notes.append(
                "speaker similarity is not measured: name recordings of the target speaker with --target"
            )
        if self._mos is None:
            notes.append(f"DNSMOS is not measured: {dnsmos.INSTALL_HINT}")
        if self._recognizer is None:
            notes.append(f"word and character errors are not measured: {asr.INSTALL_HINT}")
        elif not self._config.language and not self._recognizer.is_multilingual:
            notes.append(
                f"the words are taken for English: {self._recognizer.name} knows no other language"
            )
        return notes

    def _facts(self, converted: Clip) -> dict[str, Any]:
        return _level_metrics(converted) | {
            "seconds": converted.seconds,
            "clipped": quality.flat_top_share(converted.wave, converted.rate, 0.0),
            "bandwidth_hz": None if converted.is_silent else converted.bandwidth(),
            "target_bandwidth_hz": self._target_bandwidth,
        }

    def _opinions(
        self, converted: Clip, source: Clip | None, notes: list[str]
    ) -> dict[str, float]:
        if self._mos is None:
            return {}
        if converted.seconds < _MIN_DNSMOS_SECONDS:
            notes.append("DNSMOS is not measured: the conversion is shorter than 1 s")
            return {}
        figures = {
            f"dnsmos_{name}": value
            for name, value in self._mos(converted.audio16k)._asdict().items()
        }
        return figures | (
            {"source_dnsmos_overall": self._mos(source.audio16k).overall} if source else {}
        )

    def _similarities(
        self, converted: Clip, source: Clip | None, notes: list[str]
    ) -> dict[str, float]:
        if self._target_speaker is None:
            return {}
        figures = {}
        for name, sound in (("similarity", converted), ("source_similarity", source)):
            embedding = sound and self._embedding([sound.speech16k])
            if embedding is not None:
                figures[name] = float(embedding @ self._target_speaker)
        if "similarity" not in figures:
            notes.append(
                "speaker similarity is not measured: speech is heard in less than 1.6 s of the conversion"
            )
        return figures

    def _embedding(self, waves: list[np.ndarray]) -> np.ndarray | None:
        """Mean speaker embedding [256], of length 1, of 16 kHz speech; None of less than 1.6 s."""
        pieces = [wave[i : i + _PIECE] for wave in waves for i in range(0, len(wave), _PIECE)]
        pieces = [piece for piece in pieces if len(piece) >= _MIN_SPEECH_SECONDS * FEATURE_RATE]
        if not pieces:
            return None
        total = np.zeros(speaker.CHANNELS)
        for first in range(0, len(pieces), _PIECES):
            batch = pieces[first : first + _PIECES]
            audio = np.zeros((_PIECES, _PIECE), np.float32)
            lengths = np.full(_PIECES, _PIECE)
            for row, piece in enumerate(batch):
                audio[row, : len(piece)] = piece
                lengths[row] = len(piece)
            total += self._speaker(audio, lengths)[: len(batch)].sum(axis=0, dtype=np.float64)
        return total / np.linalg.norm(total)

    def _words(
        self, source: Clip, converted: Clip, transcripts: dict[str, str], notes: list[str]
    ) -> dict[str, float]:
        """Errors in words and characters; what was understood is put into `transcripts`."""
        model = self._recognizer
        language = self._config.language
        if model is None:
            return {}
        if language and not model.knows(language):
            notes.append(
                f"word and character errors are not measured: {model.name} does not know {language!r}"
            )
            return {}
        said = model(source.audio16k, language)
        spoken = model(converted.audio16k, said.language)
        transcripts |= {"source": said.text, "converted": spoken.text}
        wanted = asr.words(said.text)
        given = asr.words(spoken.text)
        if not wanted:
            notes.append(
                "word and character errors are not measured: no word is understood in the source"
            )
            return {}
        return {
            "word_error_rate": asr.error_rate(wanted, given),
            "character_error_rate": asr.error_rate(" ".join(wanted), " ".join(given)),
        }


def _level_metrics(sound: Clip) -> dict[str, float | None]:
    loudness = integrated_loudness([sound.wave], sound.rate)
    peak = float(np.abs(sound.wave).max())
    return {
        "loudness_lufs": loudness if math.isfinite(loudness) else None,
        "peak_dbfs": 20 * math.log10(peak) if peak else None,
        "silent": quality.silent_share(quality.split_frames(sound.wave, sound.rate)),
    }


def _pitch_and_delay_metrics(
    source: Clip, converted: Clip, notes: list[str]
) -> dict[str, float]:
    """Delay and pitch."""
    delay = estimate_delay(source.audio16k, converted.audio16k)
    apart = abs(source.seconds - converted.seconds)
    if apart > _MAX_LENGTH_DIFFERENCE:
        notes.append(
            f"source and conversion differ in length by {apart:.1f} s; their pitch is compared while both last"
        )
    waves = align(source.audio16k, converted.audio16k, delay)
    figures = {"delay_ms": 10.0 * delay} | compare_tracks(
        track_pitch(waves[0], FEATURE_RATE, waves[1], FEATURE_RATE)
    )
    if "f0_correlation" not in figures:
        notes.append(
            f"pitch is not compared: fewer than {MIN_VOICED_FRAMES} frames of 10 ms are voiced in both"
        )
    elif math.isnan(figures["f0_correlation"]):
        del figures["f0_correlation"]
        notes.append("there is no f0 correlation: one of both pitches stands still")
    return figures


def _distortion_metrics(reference: Clip, converted: Clip, notes: list[str]) -> dict[str, float]:
    if not (reference.whole and converted.whole):
        notes.append(
            "mel-cepstral distortion is not measured: it takes whole recordings; raise --seconds, up to 60"
        )
        return {}
    distortion = mel_cepstral_distortion(reference.audio16k, converted.audio16k)
    if math.isnan(distortion):
        notes.append("mel-cepstral distortion is not measured: the reference is silent")
        return {}
    return {"mcd_db": distortion}
