"""The streaming converter: samples in, converted samples out as soon as they can be rendered."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.blocks import Resampler, block_ranges
from rvc_jax.audio.filters import resampled_length
from rvc_jax.audio.level import measure_level
from rvc_jax.audio.offset import InitialOffset
from rvc_jax.config import (
    CONTENT_HOP,
    FEATURE_HOP,
    FEATURE_RATE,
    FRAMES_PER_SECOND,
    WINDOW_FRAMES,
    ConvertConfig,
)
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CONTEXT_FRAMES, crossfade
from rvc_jax.infer.compiled_voice import ATTENTION_RADIUS, SHORT_FRAMES
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.recording import Source
from rvc_jax.infer.recording_features import WINDOW_STRIDE
from rvc_jax.infer.streaming.buffers import (
    InputBuffer,
    SilenceGate,
    Timeline,
    measure_resampler_delay,
)
from rvc_jax.infer.streaming.level import StreamLevel
from rvc_jax.infer.streaming.options import (
    EXACT,
    StreamingConfig,
    check_streaming,
    plan_frames,
)


class StreamingConverter:
    """Converts a recording while it comes in. Blocks of any size give the same result.

    Output sample i belongs to the same moment as input sample i * rate / input_rate. All that
    `push` and `flush` return is together as long as the conversion of the whole recording; with
    `EXACT` it is the same but for rounding, if both work at the same gain. The peak is not limited:
    the voice itself stays within -1..1.
    """

    def __init__(
        self,
        engine: Engine,
        streaming: StreamingConfig = EXACT,
        input_rate: int = FEATURE_RATE,
    ):
        """Begin a stream.

        Args:
          engine: The voice and the options of the conversion.
          streaming: Chunks and lookahead.
          input_rate: Sample rate of what will be pushed, in Hz.

        Raises:
          UserError: a value is out of its range, or an option can't be followed before the
            recording has ended.
        """
        check_streaming(engine.config, streaming, input_rate)
        self.streaming = streaming
        self.input_rate = input_rate
        self.rate = engine.voice.sample_rate
        """Sample rate of the output in Hz."""
        self.plan = plan_frames(
            streaming, engine.voice.prior_context, engine.voice.prepare.high_pass_hz
        )
        """Chunk and lookahead in frames."""
        self._engine = engine
        self._grid = engine.voice.grid
        self._is_exact = streaming.lookahead_seconds is None
        self._gain = 10 ** (streaming.gain_db / 20)
        # soxr's best quality delays the signal by twice as much.
        self._quality = "VHQ" if self._is_exact else "HQ"
        self.reset()

    @property
    def config(self) -> ConvertConfig:
        """Options of the conversion."""
        return self._engine.config

    @property
    def latency_seconds(self) -> float:
        """Seconds after which output is given: a chunk, its lookahead, and the resampler's delay.

        When the input up to time t + latency has been pushed, all output up to t has been returned.
        The time that computing takes is not included.
        """
        frames = self.plan.chunk + self.plan.ahead
        waiting = frames / FRAMES_PER_SECOND + self.plan.filter_ahead / FEATURE_RATE
        return waiting + measure_resampler_delay(self.input_rate, self._quality)

    @property
    def next_frame(self) -> int:
        """First frame of the next chunk; frames before the recording are negative."""
        return self._begin

    @property
    def held_values(self) -> int:
        """Input samples and feature frames that are in memory."""
        return self._input.held + self._content.held + self._f0.held

    def reset(self) -> None:
        """Drop what was pushed and begin a new recording."""
        self._resampler = Resampler(self.input_rate, FEATURE_RATE, quality=self._quality)
        self._input = InputBuffer(self._engine.voice.prepare.high_pass_hz, self._gain)
        self._offset = InitialOffset(self.input_rate)
        self._level = StreamLevel() if self.streaming.follow_level else None
        self._measured_frames = 0
        self._gate = SilenceGate(self.config.silence_db)
        self._content = Timeline(
            -CONTEXT_FRAMES, self._engine.content.channels, dtype=np.float16
        )
        self._f0 = Timeline(-CONTEXT_FRAMES)
        # Pitch and phase at the voice's own frames, which are the same ones in most voices.
        self._voice_f0 = Timeline(-CONTEXT_FRAMES)
        self._phase = Timeline(-CONTEXT_FRAMES, dtype=np.float64)
        self._phase.write(-CONTEXT_FRAMES, np.zeros(1))
        # Chunks end where a window of `infer.recording_features` is just full: at 2.4 s each, they
        # wait for nothing else.
        full = WINDOW_STRIDE - CONTEXT_FRAMES - self.plan.render_ahead - self.plan.prior_ahead
        self._begin = (full - 2) % self.plan.chunk + 2 - self.plan.chunk
        self._first_open_window = 0  # the first window whose end is not known yet
        self._tail = np.zeros(0, np.float32)
        self._given = 0
        self._pushed: list[np.ndarray] = []  # for recordings that are shorter than a window

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Add a part of the recording and return what is ready.

        Args:
          samples: [samples] at `input_rate`, any number.

        Returns: float32 [samples], often none.

        Raises:
          UserError: it has several channels, or a sample is NaN or infinite; nothing of it is
            taken then.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise UserError(
                f"a stream is one channel [samples], not {list(samples.shape)}; "
                "mix the channels first"
            )
        broken = int((~np.isfinite(samples)).sum())
        if broken:
            raise UserError(
                f"{broken} of {len(samples)} samples are not numbers (NaN or infinite)"
            )
        ready = []
        # A second at a time: buffers stay short, however much is pushed at once.
        for start, stop in block_ranges(len(samples), self.input_rate):
            block = samples[start:stop]
            if self._is_exact and not self._given:
                self._pushed.append(block.copy())
            self._input.append(self._resampler.push(self._remove_offset(block)))
            while self._needed_samples() <= self._input.samples:
                ready.append(self._convert_chunk())
        return _concatenate(ready)

    def flush(self) -> np.ndarray:
        """End the recording and return the rest; what is pushed next begins a new one.

        Returns: float32 [samples].
        """
        held = self._remove_offset(np.zeros(0, np.float32), last=True)
        self._input.append(self._resampler.push(held, last=True))
        length = resampled_length(self._resampler.taken, self.input_rate, self.rate)
        self._input.end()
        if not length:
            rest = np.zeros(0, np.float32)
        elif self._is_exact and not self._given and self._is_short():
            # A short recording is encoded as a whole, which no stream of chunks can do.
            pushed = np.concatenate(self._pushed)
            source = Source.from_array(pushed, self.input_rate)
            gain = self._gain
            if self.streaming.follow_level:
                gain *= measure_level(pushed * np.float32(gain), self.input_rate).raising_gain
            rest = Converter(self._engine).convert(source, gain=gain).to_array()
        else:
            missing = length - self._given
            ready = []
            while self._given < length:
                ready.append(self._convert_chunk())
            rest = _concatenate(ready)[:missing]
        self.reset()
        return rest

    def _remove_offset(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Remove the offset that the stream began with, if there is a high-pass filter."""
        if not self._engine.voice.prepare.high_pass_hz:
            return block
        return self._offset.push(block, last)

    def _is_short(self) -> bool:
        return self._count_frames() + 2 * CONTEXT_FRAMES <= SHORT_FRAMES

    def _count_frames(self) -> int:
        """Frames of the recording, once it has ended: as `Recording.frames`."""
        return 2 * -(-self._input.samples // CONTENT_HOP)

    def _needed_samples(self) -> int:
        """Samples at 16 kHz that the next chunk needs."""
        end = self._begin + self.plan.chunk + self.plan.ahead
        return end * FEATURE_HOP + self.plan.filter_ahead

    def _convert_chunk(self) -> np.ndarray:
        """The next chunk: float32 [samples]. The first one may begin before the recording: that
        part is left out."""
        begin = self._begin
        end = begin + self.plan.chunk
        self._extract_features(end + self.plan.ahead)
        gate = self._gate.read_gains(max(begin, 0), end + self.plan.fade + 1)
        wave = self._render(begin, end, bool(gate.any()))
        fade = min(len(self._tail), len(wave))
        wave[:fade] = crossfade(self._tail[:fade], wave[:fade])
        length = self._count_samples(max(begin, 0), end)
        self._tail = wave[length:]
        self._begin = end
        self._given += length
        self._drop_old(end)
        points = np.arange(length) * (FRAMES_PER_SECOND / self.rate)
        return wave[:length] * np.interp(points, np.arange(len(gate)), gate).astype(np.float32)

    def _extract_features(self, known: int) -> None:
        """Extract pitch and content of all frames up to `content_ahead` before a frame.

        The windows are those of `infer.recording_features`, as far as they are known; the next one
        is begun when one is full.

        known: frames of the input that are known.
        """
        end = self._count_frames() if self._input.ended else None
        if end is not None:
            last_window = (end + 2 * CONTEXT_FRAMES - 1) // WINDOW_STRIDE
            known = min(known, (last_window + 1) * WINDOW_STRIDE)
        newest = max(-(-known // WINDOW_STRIDE) - 1, 0)
        for number in range(self._first_open_window, newest + 1):
            self._extract_window(number, known, end)
        self._first_open_window = known // WINDOW_STRIDE

    def _extract_window(self, number: int, known: int, end: int | None) -> None:
        """Extract the features of one window.

        Args:
          number: Number of the window.
          known: Frames of the input that are known.
          end: Frames of the recording, if it has ended.
        """
        start = number * WINDOW_STRIDE - 2 * CONTEXT_FRAMES
        stop = min(known, start + WINDOW_FRAMES)
        limit = known * FEATURE_HOP + self.plan.filter_ahead
        if end is not None:
            limit = min(limit, self._input.samples)
        audio = np.zeros((1, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        length = (stop - start) * FEATURE_HOP
        audio[0, :length] = self._input.read(start * FEATURE_HOP, stop * FEATURE_HOP, limit)
        inside = slice(max(-start, 0) * FEATURE_HOP, min(length, limit - start * FEATURE_HOP))
        sound = audio[0, inside].copy()
        if self._level is not None:
            audio *= np.float32(self._level.feature_gain(sound))
        lengths = np.array([length])
        pitch = self._engine.pitch(audio, lengths)[0]
        gate_gain = 1.0
        if self._level is not None:
            new_frames = max(stop - max(self._measured_frames, start), 0)
            self._measured_frames = max(self._measured_frames, stop)
            self._level.update(sound, pitch[max(-start, 0) : stop - start], new_frames)
            gate_gain = self._level.gate_gain
        self._gate.measure(max(start, 0), sound, gate_gain)

        # Frames that have been rendered keep their pitch, and so the source its phase.
        first = min(max(start + CONTEXT_FRAMES, self._begin), self._content.end)
        last = min(
            stop - self.plan.content_ahead, stop if end is None else end + CONTEXT_FRAMES
        )
        if first >= last:
            return
        content = self._engine.content(audio, lengths)[0]
        self._write_f0(first, pitch[first - start : last - start], end)
        new = content[(first - start) // 2 : (last - start) // 2].astype(np.float16)
        mixed = self._engine.mix_index(new, self._f0.read(first, last))
        self._content.write(first, mixed)

    def _write_f0(self, first: int, found: np.ndarray, end: int | None) -> None:
        """Write the output's pitch from a frame on, and the source's phase up to there."""
        audible = self._gate.read_audible(first, first + len(found), end)
        curve = self._engine.curve.apply(found, first, self.config.transpose)
        f0 = np.where(audible, curve, 0).astype(np.float32)
        self._f0.write(first, f0)
        # Voice frames that depend on earlier pitch alone stay as they are.
        start = max(self._grid.floor(first - 1) + 1, -CONTEXT_FRAMES)
        start = min(start, self._voice_f0.end)
        voice_f0 = self._interpolate_f0(start, self._grid.floor(self._f0.end - 1) + 1)
        self._voice_f0.write(start, voice_f0)
        steps = voice_f0.astype(np.float64) * self._grid.hop / self.rate
        cycles = self._phase.read(start, start + 1) + np.cumsum(steps)
        self._phase.write(start + 1, np.mod(cycles, 1.0))

    def _interpolate_f0(self, start: int, stop: int) -> np.ndarray:
        """The pitch at the voice frames start..stop."""
        if self._grid.is_plain:
            return self._f0.read(start, stop)
        known = self._f0.read(self._f0.first, self._f0.end)
        return self._grid.interpolate_f0(known, self._f0.first, start, stop)

    def _read_content(self, start: int, stop: int, length: int) -> np.ndarray:
        """The content at the voice frames start..stop, followed by zeros up to `length` rows."""
        if self._grid.is_plain:
            return self._content.read(start, stop, length)
        known = self._content.read(self._content.first, self._content.end)
        rows = self._grid.interpolate(known, self._content.first, start, stop)
        return np.pad(rows, ((0, length - len(rows)), (0, 0)))

    def _count_samples(self, begin: int, end: int) -> int:
        """Samples of the output that belong to frames of the input."""
        return self._grid.samples_at(end) - self._grid.samples_at(begin)

    def _render(self, begin: int, end: int, is_audible: bool) -> np.ndarray:
        """The wave of the frames begin..end, from 0 on, and of the crossfade behind them.

        is_audible: False returns zeros.
        """
        grid = self._grid
        first = max(grid.floor(begin) - CONTEXT_FRAMES, -CONTEXT_FRAMES)
        length = CONTEXT_FRAMES + grid.ceil(self.plan.chunk + self.plan.render_ahead)
        if not grid.is_plain:
            length += 1  # a chunk may begin within a voice frame
        begin = max(begin, 0)
        wave = np.zeros(self._count_samples(begin, end + self.plan.fade), np.float32)
        if not is_audible:
            return wave
        stop = min(first + length, grid.ceil(end + self.plan.render_ahead), self._voice_f0.end)
        prior = self._encode_prior(first, stop)
        prior = np.pad(prior, ((0, length - len(prior)), (0, 0)))
        f0 = self._voice_f0.read(first, stop, length)
        phase = self._phase.read(first, first + 1)[0]
        # Noise is numbered from the first frame of the margin, as in the offline converter.
        rendered = self._engine.render(prior, f0, phase, first + CONTEXT_FRAMES, stop - first)
        part = rendered[grid.samples_at(begin) - first * grid.hop :][: len(wave)]
        wave[: len(part)] = part
        return wave

    def _encode_prior(self, first: int, stop: int) -> np.ndarray:
        """Mean and log-deviation [stop - first, 2 * latent], with all the context that is known."""
        length = self.plan.prior
        if not self._grid.is_plain:
            length = -(-(self._grid.ceil(length) + 1) // ATTENTION_RADIUS) * ATTENTION_RADIUS
        ahead = self._grid.floor(self.plan.prior_ahead)
        known = min(stop + ahead, self._voice_f0.end)
        start = max(known - length, -CONTEXT_FRAMES)
        content = self._read_content(start, known, length)
        f0 = self._voice_f0.read(start, known, length)
        rows = self._engine.voice.encode_prior(content, f0, known - start, ATTENTION_RADIUS)
        return rows[first - start : stop - start]

    def _drop_old(self, end: int) -> None:
        """Drop what no chunk after the frame `end` needs."""
        needed = end - self.plan.prior - WINDOW_FRAMES
        if not self._grid.is_plain:  # windows of the prior are a little longer there
            needed -= 2 * ATTENTION_RADIUS
        for timeline in (self._content, self._f0):
            timeline.drop_before(needed)
        for timeline in (self._voice_f0, self._phase):
            timeline.drop_before(self._grid.floor(needed))
        self._gate.drop_before(end)
        self._input.drop_before(self._first_open_window * WINDOW_STRIDE - 2 * CONTEXT_FRAMES)
        self._pushed.clear()


def _concatenate(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *parts])
