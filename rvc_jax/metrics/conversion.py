"""Measures conversions: every metric of `conversion_table`, or a sentence that says why not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.audio.loudness import integrated_loudness
from rvc_jax.audio.reading import find_audio
from rvc_jax.config import FEATURE_RATE, EvaluateConfig
from rvc_jax.errors import UserError
from rvc_jax.metrics import asr, dnsmos, signal, speaker
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
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.installation import install_command

TARGET_FILES = 12
"""Recordings of the target speaker that are read, spread over a folder."""
TARGET_SECONDS = 10.0
"""Measured from the beginning of each of them."""

WORDS_AND_SPEAKER_HINT = (
    f"`{install_command('eval')} && rvc-jax download resemblyzer {asr.MODELS[0]}` brings the "
    "models that words and speaker are measured with"
)

_PIECE = 10 * FEATURE_RATE
_PIECES = 4  # per call of the speaker encoder: one shape for everything
_MIN_SPEECH_SECONDS = 1.6
_MIN_DNSMOS_SECONDS = 1.0
_MAX_LENGTH_DIFFERENCE = 0.1  # seconds
_MAX_PARALLEL_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class MeasuredConversion:
    """The metrics of one conversion."""

    name: str
    figures: ConversionMetrics
    notes: tuple[str, ...] = ()
    """Why a metric is missing, or a caveat."""
    transcripts: dict[str, str] = dataclasses.field(default_factory=dict)
    """The recognized words of `source` and `converted`."""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """The metrics of one conversion or more."""

    mean: ConversionMetrics
    """Mean of every metric over the conversions that have it."""
    conversions: tuple[MeasuredConversion, ...]
    notes: tuple[str, ...]
    """Notes that apply to all of them."""
    methods: dict[str, str]
    """The methods for pitch, speakers, opinions and words."""


def measure_conversions(
    converted: Path,
    source: Path | None = None,
    target: Path | None = None,
    reference: Path | None = None,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 frozen
    reporter: Reporter = SILENT,
) -> ConversionReport:
    """Measure conversions against their sources and their target speaker.

    Recordings of a folder that cannot be read are left out, with a note.

    Args:
      converted, source: files, or folders whose recordings have equal names.
      target: a recording of the target speaker, or a folder of them.
      reference: the target speaker saying the same words, as `source`; also the target, if that is
        not given.
      config: the part to measure, and the language.
      reporter: receives how many conversions are done.

    Raises:
      UserError: there is nothing to compare with, or a file cannot be read.
    """
    if source is None and target is None and reference is None:
        raise UserError(
            "nothing to compare with: name --source, --target or --reference beside --converted"
        )
    if config.start < 0 or not 1 <= config.seconds <= 3600:
        raise UserError("--start must be 0 or more, and --seconds between 1 and 3600")
    files, notes = pair_files(converted, source, reference)
    clips, target_failures = read_target_clips(target or reference)
    meter = ConversionMeter(config, clips)
    measured, failures = _measure_all(meter, files, reporter)
    # A dict drops duplicates and keeps the order.
    all_notes = dict.fromkeys([*notes, *target_failures, *failures, *meter.notes])
    return ConversionReport(
        mean_metrics(item.figures for item in measured),
        tuple(measured),
        tuple(all_notes),
        meter.methods,
    )


def _measure_all(
    meter: ConversionMeter, files: list[ConversionFiles], reporter: Reporter
) -> tuple[list[MeasuredConversion], list[str]]:
    """Measure the files; a sentence for each that fails.

    Raises UserError if all of them fail: a single file is the user's mistake.
    """
    measured = []
    failures = []
    for done, item in enumerate(files):
        reporter.progress("measuring", done, len(files), item.name)
        try:
            measured.append(meter(item))
        except UserError as error:
            failures.append(str(error))
    if not measured:
        raise UserError(failures[0])
    reporter.progress("measuring", len(files), len(files))
    return measured, failures


def read_target_clips(target: Path | None) -> tuple[list[Clip], list[str]]:
    """Read the beginnings of some recordings of the target speaker.

    target: a recording or a folder.

    Returns: the clips, and a sentence for every recording that can't be read.

    Raises:
      UserError: none of them can be read.
    """
    if target is None:
        return [], []
    if not target.is_dir():
        return [read_clip(target, 0.0, TARGET_FILES * TARGET_SECONDS)], []
    paths = find_audio(target)
    if not paths:
        raise UserError(f"{target} holds no recordings")
    chosen = np.unique(np.linspace(0, len(paths) - 1, TARGET_FILES).round().astype(int))
    clips = []
    failures = []
    for i in chosen:
        try:
            clips.append(read_clip(paths[i], 0.0, TARGET_SECONDS))
        except UserError as error:
            failures.append(str(error))
    if not clips:
        raise UserError(failures[0])
    return clips, failures


class ConversionMeter:
    """Measures conversions to one target speaker; the models are loaded once."""

    def __init__(self, config: EvaluateConfig, target: list[Clip]):
        """Load the models, and measure recordings of the target speaker, if there are any."""
        self._config = config
        self._speaker = speaker.SpeakerEncoder.find()
        self._dnsmos = dnsmos.Dnsmos.find()
        self._recognizer = asr.SpeechRecognizer.find()
        self.notes = self._missing_model_notes(target)
        audible = [clip for clip in target if not clip.is_silent]
        self._target_speaker = self._embed([clip.speech16k for clip in audible])
        if target and self._speaker and self._target_speaker is None:
            self.notes.append(
                "speaker similarity is not measured: the target has less than 1.6 s of speech"
            )
        bands = [clip.bandwidth() for clip in audible]
        known_bands = [band for band in bands if band is not None]
        self._target_bandwidth = float(np.median(known_bands)) if known_bands else None

    @property
    def has_words_or_speaker(self) -> bool:
        """Whether it measures word errors or speaker similarity."""
        return self._recognizer is not None or self._target_speaker is not None

    @property
    def methods(self) -> dict[str, str]:
        """The method or model of each group of metrics that is measured."""
        found = {"pitch": PITCH_METHOD}
        if self._target_speaker is not None:
            found["speaker"] = speaker.WEIGHTS
        if self._dnsmos:
            found["opinion"] = dnsmos.WEIGHTS
        if self._recognizer:
            found["words"] = self._recognizer.name
        return found

    def __call__(self, files: ConversionFiles) -> MeasuredConversion:
        """Measure one conversion.

        Raises:
          UserError: one of its recordings cannot be measured.
        """
        config = self._config
        converted = read_clip(files.converted, config.start, config.seconds)
        source = None
        if files.source:
            source = read_clip(files.source, config.start, config.seconds)
        metrics = self._signal_metrics(converted)
        if source:
            levels = _level_metrics(source)
            del levels["peak_dbfs"]
            metrics |= {f"source_{name}": value for name, value in levels.items()}
        if converted.is_silent or (source and source.is_silent):
            which = "the conversion" if converted.is_silent else "the source"
            note = (
                f"{which} is silent: nothing but its level is measured; no sample is above -80 dB "
                "of full scale, so check its channel and track"
            )
            return MeasuredConversion(files.name, ConversionMetrics(**metrics), (note,))
        notes: list[str] = []
        transcripts: dict[str, str] = {}
        metrics |= self._dnsmos_metrics(converted, source, notes)
        metrics |= self._similarity_metrics(converted, source, notes)
        if source:
            metrics |= _pitch_and_delay_metrics(source, converted, notes)
            metrics |= self._transcript_metrics(source, converted, transcripts, notes)
        if files.reference:
            reference = read_clip(files.reference, config.start, _MAX_PARALLEL_SECONDS)
            metrics |= _distortion_metrics(reference, converted, notes)
        return MeasuredConversion(
            files.name, ConversionMetrics(**metrics), tuple(notes), transcripts
        )

    def _missing_model_notes(self, target: list[Clip]) -> list[str]:
        """A sentence for every model that is not on this machine."""
        notes = []
        if self._speaker is None:
            notes.append(f"speaker similarity is not measured: {speaker.INSTALL_HINT}")
        elif not target:
            notes.append(
                "speaker similarity is not measured: name recordings of the target speaker "
                "with --target"
            )
        if self._dnsmos is None:
            notes.append(f"DNSMOS is not measured: {dnsmos.INSTALL_HINT}")
        if self._recognizer is None:
            notes.append(f"word and character errors are not measured: {asr.INSTALL_HINT}")
        elif not self._config.language and not self._recognizer.is_multilingual:
            notes.append(
                f"the words are taken for English: {self._recognizer.name} supports no other "
                "language"
            )
        return notes

    def _signal_metrics(self, converted: Clip) -> dict[str, Any]:
        return _level_metrics(converted) | {
            "seconds": converted.seconds,
            "clipped": signal.flat_top_share(converted.wave, converted.rate, 0.0),
            "bandwidth_hz": None if converted.is_silent else converted.bandwidth(),
            "target_bandwidth_hz": self._target_bandwidth,
        }

    def _dnsmos_metrics(
        self, converted: Clip, source: Clip | None, notes: list[str]
    ) -> dict[str, float]:
        if self._dnsmos is None:
            return {}
        if converted.seconds < _MIN_DNSMOS_SECONDS:
            notes.append("DNSMOS is not measured: the conversion is shorter than 1 s")
            return {}
        scores = self._dnsmos(converted.audio16k)
        metrics = {f"dnsmos_{name}": value for name, value in scores._asdict().items()}
        if source:
            metrics["source_dnsmos_overall"] = self._dnsmos(source.audio16k).overall
        return metrics

    def _similarity_metrics(
        self, converted: Clip, source: Clip | None, notes: list[str]
    ) -> dict[str, float]:
        if self._target_speaker is None:
            return {}
        metrics = {}
        for name, clip in (("similarity", converted), ("source_similarity", source)):
            embedding = self._embed([clip.speech16k]) if clip else None
            if embedding is not None:
                metrics[name] = float(embedding @ self._target_speaker)
        if "similarity" not in metrics:
            notes.append(
                "speaker similarity is not measured: the conversion has less than 1.6 s of speech"
            )
        return metrics

    def _embed(self, waves: list[np.ndarray]) -> np.ndarray | None:
        """Mean speaker embedding [256], of length 1, of 16 kHz speech.

        None without a model, or for less than 1.6 s.
        """
        if self._speaker is None:
            return None
        pieces = [wave[i : i + _PIECE] for wave in waves for i in range(0, len(wave), _PIECE)]
        shortest = _MIN_SPEECH_SECONDS * FEATURE_RATE
        pieces = [piece for piece in pieces if len(piece) >= shortest]
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
            embeddings = self._speaker(audio, lengths)[: len(batch)]
            total += embeddings.sum(axis=0, dtype=np.float64)
        return total / np.linalg.norm(total)

    def _transcript_metrics(
        self, source: Clip, converted: Clip, transcripts: dict[str, str], notes: list[str]
    ) -> dict[str, float]:
        """Errors in words and characters; the transcripts are put into `transcripts`."""
        model = self._recognizer
        language = self._config.language
        if model is None:
            return {}
        if language and not model.supports(language):
            notes.append(
                f"word and character errors are not measured: {model.name} does not support "
                f"{language!r}"
            )
            return {}
        expected = model(source.audio16k, language)
        recognized = model(converted.audio16k, expected.language)
        transcripts["source"] = expected.text
        transcripts["converted"] = recognized.text
        expected_words = asr.words(expected.text)
        words = asr.words(recognized.text)
        if not expected_words:
            notes.append(
                "word and character errors are not measured: no words are recognized in the source"
            )
            return {}
        return {
            "word_error_rate": asr.error_rate(expected_words, words),
            "character_error_rate": asr.error_rate(" ".join(expected_words), " ".join(words)),
        }


def _level_metrics(clip: Clip) -> dict[str, float | None]:
    loudness = integrated_loudness([clip.wave], clip.rate)
    peak = float(np.abs(clip.wave).max())
    return {
        "loudness_lufs": loudness if math.isfinite(loudness) else None,
        "peak_dbfs": 20 * math.log10(peak) if peak else None,
        "silent": signal.silent_share(
            signal.split_frames(clip.wave * np.float32(clip.raising_gain), clip.rate)
        ),
    }


def _pitch_and_delay_metrics(
    source: Clip, converted: Clip, notes: list[str]
) -> dict[str, float]:
    delay = estimate_delay(source.audio16k, converted.audio16k)
    difference = abs(source.seconds - converted.seconds)
    if difference > _MAX_LENGTH_DIFFERENCE:
        notes.append(
            f"source and conversion differ in length by {difference:.1f} s; "
            "their pitch is compared while both last"
        )
    waves = align(source.audio16k, converted.audio16k, delay)
    tracks = track_pitch(waves[0], FEATURE_RATE, waves[1], FEATURE_RATE)
    metrics = {"delay_ms": 10.0 * delay} | compare_tracks(tracks)
    if "f0_correlation" not in metrics:
        notes.append(
            f"pitch is not compared: fewer than {MIN_VOICED_FRAMES} frames of 10 ms are voiced "
            "in both"
        )
    elif math.isnan(metrics["f0_correlation"]):
        del metrics["f0_correlation"]
        notes.append("there is no f0 correlation: one of the two pitches is constant")
    return metrics


def _distortion_metrics(reference: Clip, converted: Clip, notes: list[str]) -> dict[str, float]:
    if not (reference.whole and converted.whole):
        notes.append(
            "mel-cepstral distortion is not measured: it takes whole recordings; "
            "raise --seconds, up to 60"
        )
        return {}
    distortion = mel_cepstral_distortion(reference.audio16k, converted.audio16k)
    if math.isnan(distortion):
        notes.append("mel-cepstral distortion is not measured: the reference is silent")
        return {}
    return {"mcd_db": distortion}
