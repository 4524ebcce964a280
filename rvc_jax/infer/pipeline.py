"""A recording in, the same words and melody in another voice out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.audio.filters import high_pass_zero_phase, resample
from rvc_jax.audio.formants import shift_formants
from rvc_jax.audio.loudness import match_volume_envelope, normalise, normalise_file, rms
from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE, ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.features.content import ContentEncoder, content_encoder
from rvc_jax.features.f0 import pitch_extractor
from rvc_jax.features.pitch import coarse_pitch
from rvc_jax.infer.chunks import CHUNK_FRAMES, CONTEXT_FRAMES, Chunk, join, plan_chunks
from rvc_jax.infer.features import RecordingFeatures
from rvc_jax.infer.options import check_options
from rvc_jax.infer.pitch_curve import PitchCurve
from rvc_jax.infer.retrieval import NEIGHBOURS, Index, mix
from rvc_jax.infer.voice import Voice

SHORTEST_SECONDS = 0.1
_PEAK = 0.99
_GATE_HOLD = 10
_GATE_FADE = 5

Listener = Callable[[float], None]
"""Is told the share that is done, 0..1."""


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A recording in another voice."""

    wave: np.ndarray
    """float32 [samples]."""
    rate: int
    transpose: float
    """Semitones by which the pitch was shifted."""

    @property
    def samples(self) -> int:
        return len(self.wave)


class Converter:
    """A voice kept warm. Every recording goes through the same few compiled shapes, whatever its length."""

    def __init__(self, voice: Voice, config: ConvertConfig, chunk_frames: tuple[int, ...] = CHUNK_FRAMES):
        """chunk_frames: the shapes, in even numbers of frames.

        Raises:
          UserError: if a setting is out of its range.
        """
        check_options(config, len(voice.speakers))
        self._curve = PitchCurve(config)
        self.voice, self.config, self._chunk_frames = voice, config, chunk_frames
        self._pitch = pitch_extractor(config.f0_method or voice.prepare.resolved().f0_method)
        self._content = _encoder_of(voice)
        has_index = voice.index is not None and len(voice.index) >= NEIGHBOURS
        self._index = Index(voice.index) if has_index and config.index_rate > 0 else None
        self._parameters = jax.device_put(voice.parameters)
        self._speak = jax.jit(self._spoken)

    def convert(self, wave: np.ndarray, rate: int, progress: Listener = lambda share: None) -> np.ndarray:
        """Speak a recording [samples] or [channels, samples] in the voice.

        Returns: float32 [samples, scaled and rounded] at the voice's rate or the one asked for, peak at most 0.99.

        Raises:
          UserError: if the recording is shorter than 0.1 s or has NaN in it.
        """
        return self(wave, rate, progress).wave

    def __call__(self, wave: np.ndarray, rate: int, progress: Listener = lambda share: None) -> Conversion:
        """As `convert`, with what else is known of the result."""
        mono = _mono(wave, rate)
        recording = resample(mono, rate, FEATURE_RATE)
        recording = high_pass_zero_phase(recording, FEATURE_RATE, self.voice.prepare.high_pass_hz)
        levelled = self._levelled(recording)
        frames = 2 * math.ceil(len(recording) / CONTENT_HOP)
        chunks = plan_chunks(frames, self._chunk_frames)
        stop = max(chunk.first + chunk.frames for chunk in chunks)
        shift = self.config.formant_shift
        heard = shift_formants(levelled, shift) if shift else levelled
        features = RecordingFeatures(heard, stop, self._pitch, self._content)
        transpose = self._curve.semitones(features.median_f0(frames), self.voice.median_f0[self.config.speaker])
        f0 = self._curve.spoken(features.f0, -CONTEXT_FRAMES, transpose)
        spoken = self._spoken_chunks(chunks, f0, features.content, progress)
        length = _scaled(len(mono), rate, self.voice.audio.sample_rate)
        converted = _fitted(join(spoken, chunks, self.voice.audio.hop), length)
        to_rate = self.config.resample_rate or self.voice.audio.sample_rate
        converted = self._refined(converted, to_rate, _scaled(len(mono), rate, to_rate))
        return Conversion(self._finished(converted, to_rate, recording, levelled), to_rate, transpose)

    def _levelled(self, recording: np.ndarray) -> np.ndarray:
        """The recording at the level that slices have in training; silence is not made louder."""
        prepare = self.voice.prepare
        if np.abs(recording).max() < 10 ** (prepare.silence_db / 20):
            return recording
        if prepare.normalisation == "post":
            return normalise(recording, prepare)
        levelled = recording.copy()
        normalise_file(levelled, FEATURE_RATE, prepare)
        return levelled

    def _spoken_chunks(self, chunks: list[Chunk], f0: np.ndarray, content: np.ndarray, progress: Listener):
        """The waves of the chunks, one after the other."""
        cycles = f0.astype(np.float64) * self.voice.audio.hop / self.voice.audio.sample_rate
        phase = np.mod(np.cumsum(cycles) - cycles, 1.0).astype(np.float32)
        for number, chunk in enumerate(chunks):
            start = chunk.first + CONTEXT_FRAMES
            part = slice(start, start + chunk.frames)
            mixed = self._mixed(content[start // 2 : (start + chunk.frames) // 2], f0[part])
            wave = self._speak(self._parameters, mixed[None], f0[None, part], phase[None, start], start)
            progress((number + 1) / len(chunks))
            yield np.asarray(wave[0])

    def _mixed(self, content: np.ndarray, f0: np.ndarray) -> np.ndarray:
        """Content [frames / 2, channels] at the frame rate, drawn towards the index; less so where unvoiced."""
        repeated = np.repeat(content, 2, axis=0)
        if self._index is None:
            return repeated
        found = np.repeat(self._index.retrieve(content), 2, axis=0)
        return mix(repeated, found, f0 > 0, self.config.index_rate, self.config.protect)

    def _spoken(self, parameters: dict[str, Any], content: jax.Array, f0: jax.Array, phase: jax.Array, start: int):
        """One chunk [1, frames, ...] -> [1, samples]. Noise is a function of the seed and the frame's number alone."""
        voice, frames = self.voice, f0.shape[1]
        latent_key, source_key = jax.random.split(jax.random.key(self.config.seed))
        numbers = start + jnp.arange(frames)
        noise = self.config.noise_scale * _noise(latent_key, numbers, voice.latent_channels)
        source_noise = _noise(source_key, numbers, voice.audio.hop).reshape(1, -1)
        return voice.network(
            parameters, "infer", content.astype(voice.dtype), jnp.full(1, frames), coarse_pitch(f0), f0,
            jnp.full(1, self.config.speaker), noise[None], source_noise, phase,
        )  # fmt: skip

    def _refined(self, wave: np.ndarray, to_rate: int, length: int) -> np.ndarray:
        """The voice's sound [samples], cleaned if that is asked for, at another rate: [length]."""
        if self.config.clean_audio:
            reduce_noise(wave, self.voice.audio.sample_rate, self.config.clean_strength)
        return _fitted(resample(wave, self.voice.audio.sample_rate, to_rate), length)

    def _finished(self, wave: np.ndarray, rate: int, recording: np.ndarray, levelled: np.ndarray) -> np.ndarray:
        """Silent where the recording is, with the loudness asked for, and never clipping."""
        wave = wave * _gate(levelled, self.config.silence_db, len(wave))
        wave = match_volume_envelope(recording, FEATURE_RATE, wave, rate, self.config.volume_envelope)
        peak = float(np.abs(wave).max(initial=0.0))
        return wave * np.float32(_PEAK / peak) if peak > _PEAK else wave


def _encoder_of(voice: Voice) -> ContentEncoder:
    """The content encoder that the voice was trained with; with another one it would speak gibberish."""
    encoder = content_encoder(voice.content_encoder, voice.version)
    if voice.content_fingerprint not in (None, encoder.fingerprint):
        raise UserError(
            f"{voice.content_encoder} is not the content encoder that this voice was trained with: same name, other "
            "weights; restore them, or prepare and train again"
        )
    return encoder


class RecordingError(UserError):
    """A recording that can't be converted; the text is the reason alone."""


def _mono(wave: np.ndarray, rate: int) -> np.ndarray:
    """The mean of the channels, float32 [samples], checked."""
    mono = np.asarray(wave, np.float32)
    mono = mono.mean(axis=0) if mono.ndim == 2 else mono
    if len(mono) < SHORTEST_SECONDS * rate:
        raise RecordingError(f"{len(mono) / rate:.2f} s of sound; at least {SHORTEST_SECONDS} s are needed")
    if not np.isfinite(mono).all():
        count = int((~np.isfinite(mono)).sum())
        raise RecordingError(f"{count} of {len(mono)} samples are not numbers (NaN or infinite)")
    return mono


def _fitted(wave: np.ndarray, length: int) -> np.ndarray:
    """Cut, or filled up with silence."""
    return np.pad(wave, (0, max(length - len(wave), 0)))[:length]


def _scaled(samples: int, from_rate: int, to_rate: int) -> int:
    """samples * to_rate / from_rate, rounded half up."""
    return (2 * samples * to_rate + from_rate) // (2 * from_rate)


def _noise(key: jax.Array, numbers: jax.Array, width: int) -> jax.Array:
    """Standard normal [frames, width], the row of a frame drawn from its number."""
    return jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), (width,)))(numbers)


def _gate(recording: np.ndarray, silence_db: float, length: int) -> np.ndarray:
    """0 where the 16 kHz recording has been below the level for a while, else 1, with short fades: [length]."""
    levels = rms(recording, 2 * FEATURE_HOP, FEATURE_HOP)
    heard = scipy.ndimage.maximum_filter1d(levels > 10 ** (silence_db / 20), 2 * _GATE_HOLD + 1)
    gain = scipy.ndimage.uniform_filter1d(heard.astype(np.float32), 2 * _GATE_FADE + 1)
    points = np.arange(length) * (len(recording) / FEATURE_HOP / length)
    return np.interp(points, np.arange(len(gain)), gain).astype(np.float32)
