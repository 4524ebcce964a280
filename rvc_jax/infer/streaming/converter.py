"""Conversion while the recording is still coming in."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from rvc_jax.audio.blocks import Resampler, block_ranges
from rvc_jax.audio.filters import resampled_length
from rvc_jax.config import (
    CONTENT_HOP,
    FEATURE_HOP,
    FEATURE_RATE,
    FRAMES_PER_SECOND,
    WINDOW_FRAMES,
    ConvertConfig,
)
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CONTEXT_FRAMES, FADE_FRAMES
from rvc_jax.infer.compiled_voice import ATTENTION_RADIUS, SHORT_FRAMES
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.recording import prepare_input
from rvc_jax.infer.streaming.buffers import (
    FILTER_RINGING,
    InputBuffer,
    SilenceGate,
    Timeline,
    measure_resampler_delay,
)
from rvc_jax.infer.voice import Voice

_STRIDE = WINDOW_FRAMES - 2 * CONTEXT_FRAMES
_FOLLOWED = (
    "transpose",
    "autotune",
    "autotune_strength",
    "autotune_scale",
    "autotune_key",
    "f0_method",
    "index_rate",
    "protect",
    "noise_scale",
    "silence_db",
    "speaker",
    "speaker_mix",
    "seed",
)
"""The options of conversion that need nothing of the recording's rest."""


@dataclasses.dataclass(frozen=True)
class StreamingConfig:
    """How much is heard before it is spoken. Times are in whole fiftieths of a second."""

    chunk_seconds: float = _STRIDE / FRAMES_PER_SECOND
    """Spoken at once, up to 2.4. Shorter chunks are ready earlier and cost more: what is around
    them is heard again with every chunk."""
    context_seconds: float | None = None
    """Of what lies behind a chunk's beginning, heard again for it; at least 0.48. None: all that
    the voice can hear."""
    lookahead_seconds: float | None = None
    """Waited for behind a chunk's end. None: as much as the conversion of a whole recording looks
    ahead."""
    crossfade_seconds: float = 2 * FADE_FRAMES / FRAMES_PER_SECOND
    """Over which a chunk goes over into the next; within the lookahead, so that nothing waits for
    it."""
    gain_db: float = 0.0
    """Of the recording: its level can't be measured before it ends. The voice was trained on speech
    whose peaks are at about -2 dB of full scale."""


EXACT = StreamingConfig()
"""What the conversion of the whole recording gives, seconds later."""

LOW_LATENCY = StreamingConfig(chunk_seconds=0.16, context_seconds=1.2, lookahead_seconds=0.32)
"""To be heard while one speaks."""


class _Sizes(NamedTuple):
    """A setting for a voice, in frames."""

    chunk: int
    fade: int
    render_ahead: int
    """Heard behind a chunk by the flow and the decoder,"""
    prior_ahead: int
    """behind that by the prior's attention,"""
    content_ahead: int
    """and behind that by the encoders of content and pitch."""
    prior: int
    """Frames whose prior is computed at once."""
    filter_ahead: int
    """Samples at 16 kHz behind all that, for the high-pass filter to ring out."""

    @property
    def ahead(self) -> int:
        return self.render_ahead + self.prior_ahead + self.content_ahead


class StreamingConverter:
    """Samples in, what can be spoken of them out. The result does not depend on the blocks in which
    they come.

    Output sample i belongs to the same moment as input sample i * rate / input_rate. Together, what
    `push` and `flush` give is as long as what a `Converter` makes of the whole; with `EXACT` it is
    the same but for rounding, if that works at the same gain (`at_gain`). Nothing is limited: the
    voice itself stays within -1..1.
    """

    def __init__(
        self,
        voice: Converter | Voice,
        config: ConvertConfig | None = None,
        streaming: StreamingConfig = EXACT,
        input_rate: int = FEATURE_RATE,
    ):
        """voice: a converter's networks are shared, not loaded again; config: its own, if none is
        given.

        Raises:
          UserError: if a setting is out of its range, or can't be followed before the recording has
              ended.
        """
        config = config or (voice.config if isinstance(voice, Converter) else ConvertConfig())
        _check(config, streaming, input_rate)
        self._converter = (
            voice.with_config(config)
            if isinstance(voice, Converter)
            else Converter(voice, config)
        )
        self.config = config
        self.streaming = streaming
        self.input_rate = input_rate
        audio = self._converter.voice.audio
        self.rate = audio.sample_rate
        self._hop = audio.hop
        self._whole = streaming.lookahead_seconds is None
        self._quality = "VHQ" if self._whole else "HQ"  # the best one holds back twice as much
        self._corner = self._converter.voice.prepare.high_pass_hz
        self._sizes = self._sized()
        self.reset()

    @property
    def latency_seconds(self) -> float:
        """Once the input up to t + latency has been pushed, all output up to t has been given.
        Computing not included.

        It is a chunk, what is heard behind it, and what the change of the sample rate holds back.
        """
        waiting = (
            self._sizes.chunk + self._sizes.ahead
        ) / FRAMES_PER_SECOND + self._sizes.filter_ahead / FEATURE_RATE
        return waiting + measure_resampler_delay(self.input_rate, self._quality)

    def reset(self) -> None:
        """Forget what was pushed and begin a new recording."""
        sizes = self._sizes
        content = self._converter._content.channels
        self._resampler = Resampler(self.input_rate, FEATURE_RATE, quality=self._quality)
        self._sound = InputBuffer(self._corner, 10 ** (self.streaming.gain_db / 20))
        self._loudness = SilenceGate(self.config.silence_db)
        self._content = Timeline(-CONTEXT_FRAMES, content, dtype=np.float16)
        self._f0 = Timeline(-CONTEXT_FRAMES)
        self._phase = Timeline(-CONTEXT_FRAMES, dtype=np.float64)
        self._phase.write(-CONTEXT_FRAMES, np.zeros(1))
        # Chunks end where a window of `infer.features` is just full: at 2.4 s each, they wait for
        # nothing else.
        full = _STRIDE - CONTEXT_FRAMES - sizes.render_ahead - sizes.prior_ahead
        self._begin = (full - 2) % sizes.chunk + 2 - sizes.chunk
        self._unfinished = 0  # the first window that has not been heard to its end
        self._tail = np.zeros(0, np.float32)
        self._given = 0
        self._pushed: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> np.ndarray:
        """More of the recording: [samples] at `input_rate`, any number. Returns what is ready:
        float32 [samples].

        Raises:
          UserError: if it is not one channel, or one of the samples is not a number; it is not
              taken then.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise UserError(
                f"a stream is one channel [samples], not {list(samples.shape)}; mix the channels first"
            )
        if broken := int((~np.isfinite(samples)).sum()):
            raise UserError(
                f"{broken} of {len(samples)} samples are not numbers (NaN or infinite)"
            )
        ready = []
        for start, stop in block_ranges(
            len(samples), self.input_rate
        ):  # what is kept stays short, however much comes at once
            if self._whole and not self._given:
                self._pushed.append(samples[start:stop].copy())
            self._sound.append(self._resampler.push(samples[start:stop]))
            while self._needed() <= self._sound.samples:
                ready.append(self._step())
        return _joined(ready)

    def flush(self) -> np.ndarray:
        """The recording is over. Returns the rest; what is pushed next begins a new one."""
        length = resampled_length(self._resampler.taken, self.input_rate, self.rate)
        self._sound.append(self._resampler.push(np.zeros(0, np.float32), last=True))
        self._sound.end()
        if not length:
            rest = np.zeros(0, np.float32)
        elif (
            self._whole
            and not self._given
            and self._frames() + 2 * CONTEXT_FRAMES <= SHORT_FRAMES
        ):
            offline = at_gain(self._converter, self.streaming.gain_db)
            rest = offline.convert(np.concatenate(self._pushed), self.input_rate)
        else:
            missing = length - self._given
            ready = []
            while self._given < length:
                ready.append(self._step())
            rest = _joined(ready)[:missing]
        self.reset()
        return rest

    def _sized(self) -> _Sizes:
        streaming = self.streaming
        context = self._converter._loaded.prior_context
        chunk = _frames(streaming.chunk_seconds)
        fade = _frames(streaming.crossfade_seconds)
        past = (
            context if streaming.context_seconds is None else _frames(streaming.context_seconds)
        )
        whole = CONTEXT_FRAMES + fade, context, CONTEXT_FRAMES
        ringing = (
            math.ceil(FILTER_RINGING / self._corner * FEATURE_RATE)
            if self._corner and self._whole
            else 0
        )
        ahead = whole if self._whole else _shared(_frames(streaming.lookahead_seconds), whole)
        prior = past + CONTEXT_FRAMES + chunk + ahead[0] + ahead[1]
        return _Sizes(
            chunk, fade, *ahead, -(-prior // ATTENTION_RADIUS) * ATTENTION_RADIUS, ringing
        )

    def _needed(self) -> int:
        """Samples at 16 kHz that must have been heard before the next chunk can be spoken."""
        end = self._begin + self._sizes.chunk + self._sizes.ahead
        return end * FEATURE_HOP + self._sizes.filter_ahead

    def _frames(self) -> int:
        """Of the recording, once it has ended: as in `Recording`."""
        return 2 * -(-self._sound.samples // CONTENT_HOP)

    def _step(self) -> np.ndarray:
        """The next chunk: float32 [samples], of the first one what is not before the recording."""
        sizes = self._sizes
        begin = self._begin
        end = begin + sizes.chunk
        self._hear(end + sizes.ahead)
        gate = self._loudness.gate(max(begin, 0), end + sizes.fade + 1)
        wave = self._spoken(begin, end, bool(gate.any()))
        faded = min(len(self._tail), len(wave))
        rise = (np.arange(faded, dtype=np.float32) + 0.5) / max(faded, 1)
        wave[:faded] = wave[:faded] * rise + self._tail[:faded] * rise[::-1]
        kept = (end - max(begin, 0)) * self._hop
        self._tail = wave[kept:]
        self._begin = end
        self._given += kept
        self._forget(end)
        points = np.arange(kept) / self._hop
        return wave[:kept] * np.interp(points, np.arange(len(gate)), gate).astype(np.float32)

    def _hear(self, known: int) -> None:
        """Find pitch and content of all frames up to `content_ahead` before the frame `known`.

        The windows are those of `infer.features`, as far as they are known; the next one is begun
        when one is full.
        """
        end = self._frames() if self._sound.ended else None
        if end is not None:
            known = min(known, _window_of(end + CONTEXT_FRAMES - 1) * _STRIDE + _STRIDE)
        newest = max(-(-known // _STRIDE) - 1, 0)
        for number in range(self._unfinished, newest + 1):
            self._hear_window(number, known, end)
        self._unfinished = known // _STRIDE

    def _hear_window(self, number: int, known: int, end: int | None) -> None:
        """known: frames of the sound that have been heard; end: of the recording, if it has
        ended."""
        start = number * _STRIDE - 2 * CONTEXT_FRAMES
        stop = min(known, start + WINDOW_FRAMES)
        limit = known * FEATURE_HOP + self._sizes.filter_ahead
        limit = min(limit, self._sound.samples) if end is not None else limit
        audio = np.zeros((1, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        lengths = np.array([(stop - start) * FEATURE_HOP])
        audio[0, : lengths[0]] = self._sound.read(
            start * FEATURE_HOP, stop * FEATURE_HOP, limit
        )
        inside = slice(
            max(-start, 0) * FEATURE_HOP, min(lengths[0], limit - start * FEATURE_HOP)
        )
        self._loudness.measure(max(start, 0), audio[0, inside])
        # What has been spoken keeps its pitch, and so the source its phase.
        first = min(max(start + CONTEXT_FRAMES, self._begin), self._content.end)
        last = min(
            stop - self._sizes.content_ahead, stop if end is None else end + CONTEXT_FRAMES
        )
        if first < last:
            pitch, content = (
                find(audio, lengths)[0]
                for find in (self._converter._pitch, self._converter._content)
            )
            self._write_f0(first, pitch[first - start : last - start], end)
            some = content[(first - start) // 2 : (last - start) // 2].astype(np.float16)
            self._content.write(
                first, self._converter._mixed(some, self._f0.read(first, last), 0)
            )

    def _write_f0(self, first: int, found: np.ndarray, end: int | None) -> None:
        """Pitch from the frame `first` on, as it is spoken, and the source's phase up to there."""
        heard = self._loudness.heard(first, first + len(found), end)
        f0 = np.where(
            heard, self._converter._curve.spoken(found, first, self.config.transpose), 0
        ).astype(np.float32)
        self._f0.write(first, f0)
        cycles = self._phase.read(first, first + 1) + np.cumsum(
            f0.astype(np.float64) * self._hop / self.rate
        )
        self._phase.write(first + 1, np.mod(cycles, 1.0))

    def _spoken(self, begin: int, end: int, audible: bool) -> np.ndarray:
        """The wave of the frames begin..end, from 0 on, and of the crossfade behind them; zeros if
        it is inaudible."""
        sizes = self._sizes
        hop = self._hop
        first = max(begin - CONTEXT_FRAMES, -CONTEXT_FRAMES)
        length = CONTEXT_FRAMES + sizes.chunk + sizes.render_ahead
        begin = max(begin, 0)
        wave = np.zeros((end + sizes.fade - begin) * hop, np.float32)
        if not audible:
            return wave
        stop = min(first + length, end + sizes.render_ahead, self._content.end)
        prior = self._prior(first, stop)
        prior = np.pad(prior, ((0, length - len(prior)), (0, 0)))
        f0 = self._f0.read(first, stop, length)
        phase = self._phase.read(first, first + 1)[0]
        loaded = self._converter._loaded
        options = self._converter._options
        spoken = loaded.speak(prior, f0, phase, first + CONTEXT_FRAMES, stop - first, **options)
        part = spoken[(begin - first) * hop :][: len(wave)]
        wave[: len(part)] = part
        return wave

    def _prior(self, first: int, stop: int) -> np.ndarray:
        """Mean and log-deviation [stop - first, 2 * latent] of frames, of all that may be heard for
        them."""
        heard = min(stop + self._sizes.prior_ahead, self._content.end)
        start = max(heard - self._sizes.prior, -CONTEXT_FRAMES)
        content = self._content.read(start, heard, self._sizes.prior)
        f0 = self._f0.read(start, heard, self._sizes.prior)
        rows = self._converter._loaded.prior(content, f0, heard - start, ATTENTION_RADIUS)
        return rows[first - start : stop - start]

    def _forget(self, end: int) -> None:
        """What no chunk after the frame `end` needs."""
        needed = end - self._sizes.prior - WINDOW_FRAMES
        for timeline in (self._content, self._f0, self._phase):
            timeline.forget(needed)
        self._loudness.forget(end)
        self._sound.forget(self._unfinished * _STRIDE - 2 * CONTEXT_FRAMES)
        self._pushed.clear()


def at_gain(converter: Converter, gain_db: float) -> Converter:
    """The converter of whole recordings, at a fixed gain in the place of the level that recordings
    are brought to."""
    other = copy.copy(converter)
    prepare = converter.voice.prepare
    silence_db = converter.config.silence_db
    gain = 10 ** (gain_db / 20)
    other._listened = lambda source: dataclasses.replace(
        prepare_input(source, prepare, silence_db), gain=gain
    )
    return other


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _window_of(frame: int) -> int:
    """Number of the window of `infer.features` in whose middle a frame is."""
    return (frame + CONTEXT_FRAMES) // _STRIDE


def _frames(seconds: float) -> int:
    """An even number: content has a frame for two."""
    return 2 * round(seconds * FRAMES_PER_SECOND / 2)


def _shared(ahead: int, whole: tuple[int, int, int]) -> tuple[int, int, int]:
    """A lookahead of frames, by what it is for: the decoder first, then the encoders and attention
    alike."""
    render = min(ahead, whole[0])
    content = min((ahead - render) // 4 * 2, whole[2])
    return render, min(ahead - render - content, whole[1]), content


def _check(config: ConvertConfig, streaming: StreamingConfig, rate: int) -> None:
    for field in dataclasses.fields(config):
        if field.name not in _FOLLOWED and getattr(config, field.name) != field.default:
            option = field.name.replace("_", "-")
            raise UserError(
                f"--{option} can't be followed in a stream: leave it at {field.default}"
            )
    if not 1000 <= rate <= 768000:
        raise UserError(
            f"a stream of {rate} samples a second is impossible: give 1000 to 768000"
        )
    whole = EXACT.chunk_seconds
    limits = {
        "chunk_seconds": (0.02, whole),
        "context_seconds": (0.48, 60),
        "lookahead_seconds": (0.02, 60),
    }
    limits |= {"crossfade_seconds": (0, streaming.chunk_seconds), "gain_db": (-60, 60)}
    for name, (least, most) in limits.items():
        value = getattr(streaming, name)
        if value is not None and not least <= value <= most:
            raise UserError(
                f"{name} {value:g} is out of range: it must be from {least:g} to {most:g}"
            )
    if (
        streaming.lookahead_seconds is not None
        and streaming.crossfade_seconds > streaming.lookahead_seconds
    ):
        raise UserError(
            f"crossfade_seconds {streaming.crossfade_seconds:g} is longer than lookahead_seconds "
            f"{streaming.lookahead_seconds:g}, within which it must lie"
        )
