"""A voice for notebooks and programs: arrays in, arrays out, and everything kept warm between
calls."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.streaming.converter import LOW_LATENCY, StreamingConfig, StreamingConverter
from rvc_jax.infer.voice import Voice

_MOST_CHANNELS = 32
_OPTIONS = tuple(field.name for field in dataclasses.fields(ConvertConfig))


class SpeakingVoice:
    """A voice that is loaded once and speaks any number of recordings. Made by
    `rvc_jax.load_voice`."""

    def __init__(self, voice: Voice, **options: Any):
        """options: fields of `rvc_jax.config.ConvertConfig`, which hold for every call that does
        not name them.

        Raises:
          TypeError: for an option that there is not. UserError: for a value out of its range.
        """
        self.voice = voice
        self._config = _changed(ConvertConfig(), options)
        self._converter: Converter | None = None

    @property
    def sample_rate(self) -> int:
        """Of the voice, in Hz: what `convert` returns is at this rate."""
        return self.voice.audio.sample_rate

    @property
    def has_pitch(self) -> bool:
        """Whether it follows the recording's melody; a voice without speaks in its own."""
        return self.voice.has_pitch

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names by number, for the option `speaker`; empty ones where the voice's file tells
        none."""
        return self.voice.speakers

    @property
    def index_rows(self) -> int:
        """Rows of the retrieval index; 0 if there is none, and the option `index_rate` does
        nothing."""
        return 0 if self.voice.index is None else len(self.voice.index)

    def convert(self, audio: np.ndarray, rate: int, **options: Any) -> np.ndarray:
        """Speak a recording in the voice.

        The first call compiles for some seconds; later ones do not, whatever their length and
        options.

        Args:
          audio: [samples] or [channels, samples]; floats of -1..1, or integers of their type's
              range.
          rate: of the audio, in Hz.
          options: fields of `rvc_jax.config.ConvertConfig`, such as `transpose` (semitones),
            `index_rate` (0..1), `protect` (0..0.5), `speaker`, `f0_method`, `seed`.

        Returns:
          float32 [round(samples * sample_rate / rate)] at `sample_rate` Hz, or as many and at what
          the option `resample_rate` asks for, no sample beyond 0.99. Stereo comes back as [2, ...]
          where an option asks to keep its sides.

        Raises:
          TypeError: for an option that there is not.
          UserError: the audio is empty or has NaN in it, an option is out of its range, or weights
            that conversion needs (a content encoder, a pitch model) are not on this machine and
            can't be had.
        """
        audio = _floats(audio)
        rate = _rate(rate)
        return self._with(_changed(self._config, options)).convert(audio, rate)

    def stream(
        self, rate: int, streaming: StreamingConfig = LOW_LATENCY, **options: Any
    ) -> StreamingConverter:
        """A stream in the voice: samples in as they come, what can be spoken of them out.

            stream = voice.stream(48000)
            for samples in microphone:
                play(stream.push(samples))
            play(stream.flush())

        Args:
          rate: of the samples that will be pushed, in Hz.
          streaming: `LOW_LATENCY`, `EXACT` or another `StreamingConfig` of
              `rvc_jax.infer.streaming.converter`.
          options: as for `convert`, those that need nothing of the recording's rest.

        Raises:
          TypeError, UserError: as `convert`; for an option that can't be followed in a stream.
        """
        config = _changed(self._config, options)
        return StreamingConverter(self._with(self._config), config, streaming, _rate(rate))

    def _with(self, config: ConvertConfig) -> Converter:
        """A converter with these options that shares what the ones before have loaded and
        compiled."""
        if self._converter is None:
            self._converter = Converter(self.voice, config)
        if self._converter.config != config:
            self._converter = self._converter.with_config(config)
        return self._converter

    def __repr__(self) -> str:
        pitch = "" if self.has_pitch else ", without pitch"
        rows = f", index of {self.index_rows} rows" if self.index_rows else ""
        return f"<voice {self.voice.version} at {self.sample_rate} Hz{pitch}{rows}>"


def load_voice(
    path: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    which: str = "best",
    **options: Any,
) -> SpeakingVoice:
    """A voice to speak in, from whatever holds one.

        voice = rvc_jax.load_voice("ada.pth", transpose=3)
        audio = voice.convert(samples, rate)          # float32 at voice.sample_rate

    Args:
      path: a `.pth` of any RVC tool, a `.zip` as voices are shared, a `.safetensors`, a folder that
        `rvc-jax import` made, or a run's folder or URL.
      index: a faiss `.index` or `.npy` in the place of the one that belongs to the voice or lies
        beside its file; "none" takes none.
      which: `best` or `latest`, of a run.
      options: as for `SpeakingVoice.convert`; they hold for every call that names no others.

    Raises:
      UserError: there is no voice, it is damaged or of another architecture, or the index is
          another voice's.
    """
    from rvc_jax.storage.environment import start_jax

    start_jax()
    index = None if index is None else os.fspath(index)
    return SpeakingVoice(Voice.load(os.fspath(path), which, index), **options)


def _changed(config: ConvertConfig, options: dict[str, Any]) -> ConvertConfig:
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise TypeError(f"there is no option {unknown[0]!r}; options are {', '.join(_OPTIONS)}")
    return dataclasses.replace(config, **options)


def _floats(audio: np.ndarray) -> np.ndarray:
    """float32 [samples] or [channels, samples], 1 is full scale."""
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2) or audio.dtype.kind not in "fiu":
        found = f"{audio.dtype} {audio.shape}"
        raise UserError(
            f"audio is an array [samples] or [channels, samples] of numbers, not {found}"
        )
    if audio.ndim == 2 and len(audio) > _MOST_CHANNELS:
        raise UserError(
            f"{len(audio)} channels of {audio.shape[1]} samples? Transpose the array: [channels, samples]"
        )
    if audio.ndim == 2 and not len(audio):
        raise UserError("the audio has no channels")
    if audio.dtype.kind == "f":
        return audio.astype(np.float32)
    middle = 0 if audio.dtype.kind == "i" else 2 ** (8 * audio.dtype.itemsize - 1)
    return ((audio.astype(np.float64) - middle) / 2 ** (8 * audio.dtype.itemsize - 1)).astype(
        np.float32
    )


def _rate(rate: int) -> int:
    if int(rate) != rate or not 1000 <= rate <= 1_000_000:
        raise UserError(f"a sample rate is a whole number of Hz, from 1000 on, not {rate}")
    return int(rate)
