"""Conversion of whole recordings: the same words and melody in another voice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from rvc_jax.audio.blocks import block_ranges, collect_blocks, read_range, resample_blocks
from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.config import ConvertConfig
from rvc_jax.infer.chunking import (
    CHUNK_FRAMES,
    CONTEXT_FRAMES,
    FADE_FRAMES,
    Chunk,
    LazyRows,
    join_chunks,
    plan_chunks,
)
from rvc_jax.infer.compiled_voice import ATTENTION_RADIUS, SHORT_FRAMES
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.notes import describe_findings
from rvc_jax.infer.postprocess import ConvertedAudio, apply_gate, fit_length, postprocess
from rvc_jax.infer.recording import Recording, Source, prepare_input, scratch_folder
from rvc_jax.infer.recording_features import BLOCK_FRAMES, RecordingFeatures
from rvc_jax.reporter import SILENT, Reporter

_PITCH_SHARE = 0.2  # of the work, roughly
_STAGE = "converting"


class Converter:
    """Converts recordings of any length through the same few compiled shapes."""

    def __init__(self, engine: Engine, chunk_frames: tuple[int, ...] = CHUNK_FRAMES):
        """chunk_frames: Lengths of the chunks that are rendered at once, even numbers of frames."""
        self.engine = engine
        self._chunk_frames = chunk_frames
        # A window of the prior holds the longest chunk and the context on both sides of it.
        window = 2 * engine.voice.prior_context + max(chunk_frames)
        self._prior_frames = -(-window // ATTENTION_RADIUS) * ATTENTION_RADIUS

    @property
    def config(self) -> ConvertConfig:
        """The options."""
        return self.engine.config

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the voice's files."""
        return self.engine.voice.model.notes

    def with_config(self, config: ConvertConfig) -> Converter:
        """A converter with other options that shares all that is loaded and compiled.

        Raises:
          UserError: An option is out of its range.
        """
        return Converter(self.engine.with_config(config), self._chunk_frames)

    def convert_array(self, wave: np.ndarray, rate: int) -> np.ndarray:
        """Convert a recording in memory; see `convert`.

        Args:
          wave: [samples] or [channels, samples], 1 is full scale.
          rate: Its sample rate in Hz.

        Returns: float32 [samples], or [2, samples] if the side of a stereo recording is kept.
        """
        return self.convert(Source.from_array(wave, rate)).to_array()

    def convert(
        self, source: Source, reporter: Reporter = SILENT, gain: float | None = None
    ) -> ConvertedAudio:
        """Convert a recording of any length.

        The source is read once, to its end. Long waves are kept in the temporary folder, so that
        memory does not grow with the length.

        Args:
          source: The recording.
          reporter: Receives progress; an exception that it raises ends the conversion.
          gain: Fixed gain of the input; by default it is leveled like the training speech.

        Returns: the result, whose length is that of the source at the output's rate, rounded.

        Raises:
          UserError: The source is empty or has NaN in it, or the disk has no room.
          AudioError: The file of the source is damaged.
        """
        config = self.config
        voice = self.engine.voice
        rate = config.resample_rate or voice.sample_rate

        recording = prepare_input(
            source,
            voice.prepare,
            config.silence_db,
            formant_shift=config.formant_shift,
            gain=gain,
            side_rate=rate if config.stereo == "keep-side" else None,
        )
        features = RecordingFeatures(
            recording,
            self.engine.pitch,
            self.engine.content,
            lambda share: reporter.progress(_STAGE, _PITCH_SHARE * share, 1),
        )
        found_f0 = features.f0[CONTEXT_FRAMES:-CONTEXT_FRAMES]
        transpose = self.engine.choose_transpose(found_f0)
        has_pitch = voice.model.generator.has_pitch
        notes = describe_findings(recording, found_f0, config, has_pitch)
        f0 = self.engine.curve.apply(features.f0, -CONTEXT_FRAMES, transpose)
        gate = recording.compute_gate()
        frames = voice.grid.count_frames(recording.frames)
        chunks = plan_chunks(frames, self._chunk_frames)

        # Everything from here on is lazy: chunks are rendered while the result is collected.
        content = self._mix_content(features, f0)
        content, f0 = voice.grid.map_features(content, f0, frames)
        waves = self._render_chunks(
            chunks, f0, self._encode_prior(content, f0), voice.grid.widen_gate(gate), reporter
        )
        blocks = join_chunks(waves, chunks, voice.hop)
        blocks = self._clean_and_resample(blocks, recording, rate)
        wave = collect_blocks(apply_gate(blocks, gate, rate), rate, scratch_folder())
        converted = postprocess(wave, recording, config.volume_envelope, rate, transpose)
        return dataclasses.replace(converted, notes=notes)

    def _mix_content(self, features: RecordingFeatures, f0: np.ndarray) -> LazyRows:
        """The content of all frames, mixed with what the index has nearest to it."""
        return LazyRows(
            lambda block: self.engine.mix_index(
                features.content(block), f0[block * BLOCK_FRAMES :][:BLOCK_FRAMES]
            ),
            BLOCK_FRAMES,
            features.count,
        )

    def _encode_prior(self, content: LazyRows, f0: np.ndarray) -> LazyRows:
        """The prior of all frames, in windows that include what their attention takes in.

        A short recording is one window, in which every frame attends to all.
        """
        voice = self.engine.voice
        count = len(f0)
        if count <= SHORT_FRAMES:
            size = SHORT_FRAMES
            context = 0
            length = SHORT_FRAMES
            radius = None
        else:
            context = voice.prior_context
            length = self._prior_frames
            size = length - 2 * context
            radius = ATTENTION_RADIUS

        def encode_window(number: int) -> np.ndarray:
            begin = number * size
            start = max(begin - context, 0)
            stop = min(start + length, count)
            pitch = np.pad(f0[start:stop], (0, length - (stop - start)))
            window = content.read(start, start + length)
            rows = voice.encode_prior(window, pitch, stop - start, radius)
            return rows[begin - start :][:size]

        return LazyRows(encode_window, size, count)

    def _render_chunks(
        self,
        chunks: list[Chunk],
        f0: np.ndarray,
        prior: LazyRows,
        gate: np.ndarray,
        reporter: Reporter,
    ) -> Iterator[np.ndarray | None]:
        """The waves of the chunks in order; None for those that the gate silences wholly."""
        voice = self.engine.voice
        cycles = f0.astype(np.float64) * voice.hop / voice.sample_rate
        phase = np.mod(np.cumsum(cycles) - cycles, 1.0).astype(np.float32)
        for number, chunk in enumerate(chunks):
            start = chunk.first + CONTEXT_FRAMES  # f0 and prior begin with the margin
            stop = min(start + chunk.frames, len(f0))
            wave = None
            if not is_silent(gate, chunk):
                pitch = np.pad(f0[start:stop], (0, chunk.frames - (stop - start)))
                rows = prior.read(start, start + chunk.frames)
                wave = self.engine.render(rows, pitch, phase[start], start, stop - start)
            share = (number + 1) / len(chunks)
            reporter.progress(_STAGE, _PITCH_SHARE + (1 - _PITCH_SHARE) * share, 1)
            yield wave

    def _clean_and_resample(
        self, blocks: Iterator[np.ndarray], recording: Recording, to_rate: int
    ) -> Iterator[np.ndarray]:
        """The rendered wave, denoised if that is asked for, at the output's rate and length."""
        rate = self.engine.voice.sample_rate
        blocks = fit_length(blocks, recording.length_at(rate))
        if self.config.clean_audio:
            # The noise is estimated from the whole wave.
            whole = collect_blocks(blocks, rate, scratch_folder())
            reduce_noise(whole, rate, self.config.clean_strength)
            blocks = (
                read_range(whole, start, stop) for start, stop in block_ranges(len(whole))
            )
        if to_rate == rate:
            return blocks
        # Both lengths are rounded: resampling may give one sample more or less than the source.
        resampled = resample_blocks(blocks, rate, to_rate)
        return fit_length(resampled, recording.length_at(to_rate))


def is_silent(gate: np.ndarray, chunk: Chunk) -> bool:
    """Whether the gate [frames] silences a chunk wholly, fades included."""
    begin = max(chunk.begin - FADE_FRAMES, 0)
    return not gate[begin : chunk.end + FADE_FRAMES + 1].any()
