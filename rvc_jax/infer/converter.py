"""A recording in, the same words and melody in another voice out."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import numpy as np

from rvc_jax.audio import blocks
from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.features.content import ContentEncoder, content_encoder
from rvc_jax.features.f0 import pitch_extractor
from rvc_jax.infer.chunking import (
    CHUNK_FRAMES,
    CONTEXT_FRAMES,
    FADE_FRAMES,
    Chunk,
    LazyRows,
    join,
    plan_chunks,
)
from rvc_jax.infer.compiled_voice import ATTENTION_RADIUS, SHORT_FRAMES, CompiledVoice
from rvc_jax.infer.f0_curve import F0Curve
from rvc_jax.infer.options import check_options
from rvc_jax.infer.postprocess import ConvertedAudio, apply_gate, fit_length, postprocess
from rvc_jax.infer.recording import (
    Recording,
    RecordingError,
    Source,
    extract_side,
    length_at,
    prepare_input,
    scratch_folder,
)
from rvc_jax.infer.recording_features import BLOCK_FRAMES, RecordingFeatures
from rvc_jax.infer.retrieval import mix
from rvc_jax.infer.voice import Voice

__all__ = ["Conversion", "Converter", "Listener", "RecordingError", "Source"]

_PITCH_SHARE = 0.2  # of the work, roughly

Listener = Callable[[float], None]
"""Is told the share that is done, 0..1."""


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A recording in another voice."""

    wave: np.ndarray
    """float32 [samples], or [2, samples] of a stereo recording whose side is kept."""
    rate: int
    transpose: float
    """Semitones by which the pitch was shifted."""

    @property
    def samples(self) -> int:
        return self.wave.shape[-1]


class Converter:
    """A voice kept warm. Every recording goes through the same few compiled shapes, whatever its
    length."""

    def __init__(
        self, voice: Voice, config: ConvertConfig, chunk_frames: tuple[int, ...] = CHUNK_FRAMES
    ):
        """chunk_frames: the shapes, in even numbers of frames.

        Raises:
          UserError: if a setting is out of its range.
        """
        check_options(config, len(voice.speakers))
        self.voice = voice
        self._chunk_frames = chunk_frames
        self._loaded = CompiledVoice(voice)
        self._content = _encoder_of(voice)
        kept = 2 * self._loaded.prior_context + max(chunk_frames)
        self._prior_frames = -(-kept // ATTENTION_RADIUS) * ATTENTION_RADIUS
        self._configure(config)

    def with_config(self, config: ConvertConfig) -> Converter:
        """A converter with other options, which shares all that is loaded and compiled. Raises
        UserError as above."""
        check_options(config, len(self.voice.speakers))
        other = copy.copy(self)
        other._configure(config)
        return other

    def _configure(self, config: ConvertConfig) -> None:
        self.config = config
        self._curve = F0Curve(config)
        self._mixture = _speakers(config, self.voice)
        self._pitch = pitch_extractor(
            config.f0_method or self.voice.prepare.resolved().f0_method
        )
        self._index = self._loaded.index if config.index_rate > 0 else None
        self._options = {
            "speaker": self._loaded.speaker(self._mixture),
            "key": jax.random.key(config.seed),
            "noise_scale": np.float32(config.noise_scale),
        }

    def convert(
        self, wave: np.ndarray, rate: int, progress: Listener = lambda share: None
    ) -> np.ndarray:
        """Speak a recording [samples] or [channels, samples] in the voice.

        Returns: float32 [samples, scaled and rounded] at the voice's rate or the one asked for,
        peak at most 0.99;
          [2, ...] if the side is kept.

        Raises:
          UserError: if the recording is empty or has NaN in it.
        """
        return self(wave, rate, progress).wave

    def __call__(
        self, wave: np.ndarray, rate: int, progress: Listener = lambda share: None
    ) -> Conversion:
        """As `convert`, with what else is known of the result."""
        spoken = self.speak(Source.of_array(wave, rate), progress)
        channels = np.concatenate(
            [np.zeros((spoken.channels, 0), np.float32), *spoken.blocks()], axis=1
        )
        return Conversion(
            channels if len(channels) > 1 else channels[0], spoken.rate, spoken.transpose
        )

    def speak(self, source: Source, progress: Listener = lambda share: None) -> ConvertedAudio:
        """As `convert`, of a source and with a result of any length: what is long lies on the disk
        meanwhile.

        Raises:
          UserError: as `convert`, or if the disk has no room. AudioError: of a file's samples.
        """
        rate = self.config.resample_rate or self.voice.audio.sample_rate
        recording = self._listened(source)
        chunks = plan_chunks(recording.frames, self._chunk_frames)
        hearing = lambda share: progress(_PITCH_SHARE * share)  # noqa: E731
        features = RecordingFeatures(recording, self._pitch, self._content, hearing)
        f0, transpose = self._spoken_f0(features.f0)
        gate = recording.gate()
        waves = self._spoken_chunks(chunks, f0, self._prior_rows(features, f0), gate, progress)
        wave = self._refined(join(waves, chunks, self.voice.audio.hop), recording, rate)
        wave = blocks.collect_blocks(apply_gate(wave, gate, rate), rate, scratch_folder())
        kept = (
            extract_side(source, rate)
            if self.config.stereo == "keep-side" and recording.channels > 1
            else None
        )
        return postprocess(wave, recording, kept, self.config.volume_envelope, rate, transpose)

    def _refined(
        self, wave: Iterator[np.ndarray], recording: Recording, to_rate: int
    ) -> Iterator[np.ndarray]:
        """The voice's sound in blocks, cleaned if that is asked for, at another rate."""
        rate = self.voice.audio.sample_rate
        wave = fit_length(wave, length_at(recording, rate))
        if self.config.clean_audio:
            whole = blocks.collect_blocks(wave, rate, scratch_folder())
            reduce_noise(whole, rate, self.config.clean_strength)
            wave = (
                blocks.read_range(whole, start, stop)
                for start, stop in blocks.block_ranges(len(whole))
            )
        return fit_length(
            blocks.resample_blocks(wave, rate, to_rate), length_at(recording, to_rate)
        )

    def _listened(self, source: Source) -> Recording:
        """What is done to a recording before anything is found in it."""
        return prepare_input(
            source, self.voice.prepare, self.config.silence_db, self.config.formant_shift
        )

    def _spoken_f0(self, f0: np.ndarray) -> tuple[np.ndarray, float]:
        """The pitch that is spoken, of the pitch that was found: float32 [frames] in Hz with
        CONTEXT_FRAMES at either end, 0 is unvoiced; and the semitones between them."""
        inner = f0[CONTEXT_FRAMES:-CONTEXT_FRAMES]
        median = float(np.median(inner[inner > 0])) if (inner > 0).any() else 0.0
        most = max(self._mixture, key=self._mixture.__getitem__)
        semitones = self._curve.semitones(median, self.voice.median_f0[most])
        return self._curve.spoken(f0, -CONTEXT_FRAMES, semitones), semitones

    def _spoken_chunks(
        self,
        chunks: list[Chunk],
        f0: np.ndarray,
        prior: LazyRows,
        gate: np.ndarray,
        progress: Listener,
    ) -> Iterator[np.ndarray | None]:
        """The waves of the chunks, one after the other; None for those that the gate silences
        wholly."""
        cycles = f0.astype(np.float64) * self.voice.audio.hop / self.voice.audio.sample_rate
        phase = np.mod(np.cumsum(cycles) - cycles, 1.0).astype(np.float32)
        for number, chunk in enumerate(chunks):
            start = chunk.first + CONTEXT_FRAMES
            stop = min(start + chunk.frames, len(f0))
            wave = None
            if not _is_silent(gate, chunk):
                pitch = np.pad(f0[start:stop], (0, chunk.frames - (stop - start)))
                rows = prior.read(start, start + chunk.frames)
                wave = self._loaded.speak(
                    rows, pitch, phase[start], start, stop - start, **self._options
                )
            progress(_PITCH_SHARE + (1 - _PITCH_SHARE) * (number + 1) / len(chunks))
            yield wave

    def _prior_rows(self, features: RecordingFeatures, f0: np.ndarray) -> LazyRows:
        """The prior of all frames, in windows with as much around them as their attention hears.

        A short recording is one window, in which everything hears everything.
        """
        content = LazyRows(
            lambda block: self._mixed(features.content(block), f0, block),
            BLOCK_FRAMES,
            features.count,
        )
        if features.count <= SHORT_FRAMES:
            size = SHORT_FRAMES
            context = 0
            length = SHORT_FRAMES
            reach = None
        else:
            context = self._loaded.prior_context
            length = self._prior_frames
            reach = ATTENTION_RADIUS
            size = length - 2 * context

        def window(number: int) -> np.ndarray:
            begin = number * size
            start = max(begin - context, 0)
            stop = min(start + length, features.count)
            pitch = np.pad(f0[start:stop], (0, length - (stop - start)))
            rows = self._loaded.prior(
                content.read(start, start + length), pitch, stop - start, reach
            )
            return rows[begin - start :][:size]

        return LazyRows(window, size, features.count)

    def _mixed(self, content: np.ndarray, f0: np.ndarray, block: int) -> np.ndarray:
        """A block of content [frames / 2, channels] at the frame rate, drawn towards the index;
        less where unvoiced."""
        repeated = np.repeat(content, 2, axis=0)
        if self._index is None:
            return repeated
        found = np.repeat(self._index.retrieve(content), 2, axis=0)
        voiced = f0[block * BLOCK_FRAMES :][:BLOCK_FRAMES] > 0
        voiced = np.pad(voiced, (0, len(repeated) - len(voiced)))
        return mix(repeated, found, voiced, self.config.index_rate, self.config.protect)


def _is_silent(gate: np.ndarray, chunk: Chunk) -> bool:
    """Whether nothing of a chunk comes through the gate [frames]: it need not be spoken then."""
    return not gate[max(chunk.begin - FADE_FRAMES, 0) : chunk.end + FADE_FRAMES + 1].any()


def _encoder_of(voice: Voice) -> ContentEncoder:
    """The content encoder that the voice was trained with; with another one it would speak
    gibberish."""
    encoder = content_encoder(voice.content_encoder, voice.version)
    if voice.content_fingerprint not in (None, encoder.fingerprint):
        raise UserError(
            f"{voice.content_encoder} is not the content encoder that this voice was trained with: same name, other "
            "weights; restore them, or prepare and train again"
        )
    return encoder


def _speakers(config: ConvertConfig, voice: Voice) -> dict[int, float]:
    """The speakers' shares by number, 1 together.

    Raises:
      UserError: for a mixture that is not written as one, of speakers that there are, each with a
          share above 0.
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
            f"--speaker-mix {config.speaker_mix!r} is no mixture: write numbers of speakers, each once, and their "
            "shares above 0, as in 0:0.7,1:0.3"
        ) from None
    if unknown := [number for number in shares if not 0 <= number < len(voice.speakers)]:
        last = len(voice.speakers) - 1
        raise UserError(
            f"--speaker-mix {config.speaker_mix}: there is no speaker {unknown[0]}, only 0 to {last}"
        )
    return {number: share / sum(shares.values()) for number, share in shares.items()}
