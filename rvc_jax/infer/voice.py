"""The public voice: load it once, convert any number of recordings with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import FEATURE_RATE, FRAMES_PER_SECOND, ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CHUNK_FRAMES
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.recording import Source
from rvc_jax.infer.streaming.converter import StreamingConverter
from rvc_jax.infer.streaming.options import LOW_LATENCY, StreamingConfig, check_streaming
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import Location
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice

_MAX_CHANNELS = 32
_OPTIONS = tuple(field.name for field in dataclasses.fields(ConvertConfig))


class Voice:
    """A voice that is loaded once and converts any number of recordings.

    Made by `rvc_jax.load_voice`. Networks are compiled when they are first needed and shared by all
    later calls. Not for several threads at once.
    """

    def __init__(self, model: VoiceModel, **options: Any):
        """Hold a voice that is in memory.

        Args:
          model: The voice.
          options: Fields of `rvc_jax.config.ConvertConfig`; they hold for every call that does not
            name them.

        Raises:
          TypeError: unknown option.
        """
        self.model = model
        self._config = _replace_options(ConvertConfig(), options)
        self._engine: Engine | None = None

    @classmethod
    def load(
        cls,
        place: Location,
        which: str = "best",
        index: Path | str | None = None,
        content_encoder: str | None = None,
        member: str | None = None,
        **options: Any,
    ) -> Voice:
        """Load a voice from a run, a file, an archive or a folder; see `rvc_jax.load_voice`.

        Raises:
          TypeError: unknown option.
          UserError: there is no voice, it is damaged, or the index belongs to another voice.
        """
        model = open_voice(
            place, which, index=index, content_encoder=content_encoder, member=member
        )
        return cls(model, **options)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the voice in Hz: what `convert` returns is at this rate."""
        return self.model.audio.sample_rate

    @property
    def has_pitch(self) -> bool:
        """Whether the result follows the recording's melody; a voice without pitch has its own."""
        return self.model.generator.has_pitch

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names by number, for the option `speaker`; empty where the voice's file has none."""
        return self.model.speakers

    @property
    def index_rows(self) -> int:
        """Rows of the retrieval index; 0 without an index, when `index_rate` has no effect."""
        return 0 if self.model.index is None else len(self.model.index)

    def convert(self, audio: np.ndarray, rate: int, **options: Any) -> np.ndarray:
        """Convert a recording in memory.

        The first call compiles for some seconds; later ones do not, whatever their length and
        options.

        Args:
          audio: [samples] or [channels, samples]; floats of -1..1, or integers of their type's
            range.
          rate: Sample rate of the audio in Hz.
          options: Fields of `rvc_jax.config.ConvertConfig`, such as `transpose` (semitones),
            `index_rate` (0..1), `protect` (0..0.5), `speaker`, `f0_method`, `seed`.

        Returns:
          float32 [round(samples * sample_rate / rate)] at `sample_rate` Hz, or at the rate that
          the option `resample_rate` asks for; no sample is beyond 0.99. The result is [2, ...]
          where the option `stereo` keeps the side of a stereo recording.

        Raises:
          TypeError: unknown option.
          UserError: the audio is empty or has NaN in it, an option is out of its range, or weights
            that conversion needs (a content encoder, a pitch model) are missing and can't be
            downloaded.
        """
        audio = _to_floats(audio)
        rate = _check_rate(rate)
        config = _replace_options(self._config, options)
        return self.converter(config).convert_array(audio, rate)

    def stream(
        self, rate: int, streaming: StreamingConfig = LOW_LATENCY, **options: Any
    ) -> StreamingConverter:
        """Open a stream: samples are pushed as they come, and converted as soon as possible.

            stream = voice.stream(48000)
            for samples in microphone:
                play(stream.push(samples))
            play(stream.flush())

        Args:
          rate: Sample rate of what will be pushed, in Hz.
          streaming: `LOW_LATENCY`, `EXACT` or another `rvc_jax.infer.streaming.StreamingConfig`.
          options: As for `convert`, except those that need the whole recording.

        Raises:
          TypeError: unknown option.
          UserError: as `convert`, or for an option that can't be followed in a stream.
        """
        config = _replace_options(self._config, options)
        rate = _check_rate(rate)
        check_streaming(config, streaming, rate)
        return StreamingConverter(self._get_engine(config), streaming, rate)

    def convert_recording(
        self,
        wave: np.ndarray,
        rate: int,
        config: ConvertConfig,
        reporter: Reporter = SILENT,
    ) -> ConvertedAudio:
        """Convert a decoded recording [channels, samples] under given options.

        Raises:
          UserError: as `convert`.
        """
        return self.converter(config).convert(Source.from_array(wave, rate), reporter)

    def converter(self, config: ConvertConfig | None = None) -> Converter:
        """A converter that shares what earlier ones have loaded and compiled.

        config: The options; by default those of this voice.

        Raises:
          UserError: an option is out of its range.
        """
        return Converter(self._get_engine(config or self._config))

    def _get_engine(self, config: ConvertConfig) -> Engine:
        """The engine under given options; all engines share one compiled voice."""
        if self._engine is None:
            self._engine = Engine.from_model(self.model, config)
        if self._engine.config != config:
            self._engine = self._engine.with_config(config)
        return self._engine

    def warm_up(self) -> None:
        """Compile every shape that a recording can need, under the default options."""
        for seconds in (0.5, max(CHUNK_FRAMES) / FRAMES_PER_SECOND):
            time = np.arange(round(seconds * FEATURE_RATE)) / FEATURE_RATE
            tone = np.sin(2 * np.pi * 200 * time).astype(np.float32) * 0.1
            self.converter(ConvertConfig()).convert_array(tone, FEATURE_RATE)

    def __repr__(self) -> str:
        pitch = "" if self.has_pitch else ", without pitch"
        rows = f", index of {self.index_rows} rows" if self.index_rows else ""
        return f"<voice {self.model.version} at {self.sample_rate} Hz{pitch}{rows}>"


def _replace_options(config: ConvertConfig, options: dict[str, Any]) -> ConvertConfig:
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}; options are {', '.join(_OPTIONS)}")
    return dataclasses.replace(config, **options)


def _to_floats(audio: np.ndarray) -> np.ndarray:
    """float32 [samples] or [channels, samples], in which 1 is full scale."""
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2) or audio.dtype.kind not in "fiu":
        found = f"{audio.dtype} {audio.shape}"
        raise UserError(
            f"audio is an array [samples] or [channels, samples] of numbers, not {found}"
        )
    if audio.ndim == 2 and len(audio) > _MAX_CHANNELS:
        raise UserError(
            f"{len(audio)} channels of {audio.shape[1]} samples? "
            "Transpose the array: [channels, samples]"
        )
    if audio.ndim == 2 and not len(audio):
        raise UserError("the audio has no channels")
    if audio.dtype.kind == "f":
        return audio.astype(np.float32)
    full_scale = 2 ** (8 * audio.dtype.itemsize - 1)
    middle = 0 if audio.dtype.kind == "i" else full_scale  # unsigned samples are centered there
    return ((audio.astype(np.float64) - middle) / full_scale).astype(np.float32)


def _check_rate(rate: int) -> int:
    if int(rate) != rate or not 1000 <= rate <= 1_000_000:
        raise UserError(f"a sample rate is a whole number of Hz, from 1000 on, not {rate}")
    return int(rate)
