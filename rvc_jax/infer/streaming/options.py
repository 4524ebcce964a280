"""How a stream is cut into chunks, and which options of a conversion it can follow."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from rvc_jax.config import FEATURE_RATE, FRAMES_PER_SECOND, ConvertConfig, option
from rvc_jax.errors import UserError
from rvc_jax.infer.chunking import CONTEXT_FRAMES, FADE_FRAMES
from rvc_jax.infer.compiled_voice import ATTENTION_RADIUS
from rvc_jax.infer.recording_features import WINDOW_STRIDE
from rvc_jax.infer.streaming.buffers import FILTER_RINGING

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
"""Options of a conversion that need nothing of the rest of the recording."""


@dataclasses.dataclass(frozen=True)
class StreamingConfig:
    """How much input a stream waits for before it renders. Times are multiples of 0.02 s."""

    chunk_seconds: float = WINDOW_STRIDE / FRAMES_PER_SECOND
    """Rendered at once, up to 2.4. Shorter chunks are ready earlier and cost more: the context
    around them is computed again with every chunk."""
    context_seconds: float | None = None
    """Input before a chunk that is computed again for it, at least 0.48. None: all that the voice
    depends on."""
    lookahead_seconds: float | None = None
    """Input behind a chunk that is waited for. None: as much as the conversion of a whole recording
    looks ahead."""
    crossfade_seconds: float = 2 * FADE_FRAMES / FRAMES_PER_SECOND
    """Length of the crossfade from one chunk to the next. It is part of the lookahead and adds no
    latency."""
    gain_db: float = 0.0
    """Gain of the input, whose level can't be measured before it ends. The voice was trained on
    speech with peaks at about -2 dB of full scale."""
    follow_level: bool = True
    """Raise quiet speech (peaks below -20 dB of full scale) for pitch, content and the silence
    gate, by the level of the voice so far; False: the gain is `gain_db` alone."""


EXACT = StreamingConfig()
"""The result of the conversion of the whole recording, some seconds later."""

LOW_LATENCY = StreamingConfig(chunk_seconds=0.16, context_seconds=1.2, lookahead_seconds=0.32)
"""For conversations: half a second of latency."""


class FramePlan(NamedTuple):
    """A streaming configuration applied to one voice, in frames."""

    chunk: int
    """Frames of a chunk."""
    fade: int
    """Frames of the crossfade behind it."""
    render_ahead: int
    """Lookahead of flow and decoder behind a chunk."""
    prior_ahead: int
    """Lookahead of the prior's attention behind that."""
    content_ahead: int
    """Lookahead of the encoders of content and pitch behind that."""
    prior: int
    """Frames whose prior is computed at once."""
    filter_ahead: int
    """Samples at 16 kHz behind all that, in which the high-pass filter rings out."""

    @property
    def ahead(self) -> int:
        """Frames of lookahead in all."""
        return self.render_ahead + self.prior_ahead + self.content_ahead


def plan_frames(
    streaming: StreamingConfig, prior_context: int, high_pass_hz: float
) -> FramePlan:
    """Apply a streaming configuration to a voice.

    Args:
      streaming: The configuration.
      prior_context: Frames on either side that the voice's prior depends on.
      high_pass_hz: Corner of the voice's high-pass filter in Hz; 0 is off.
    """
    chunk = _to_frames(streaming.chunk_seconds)
    fade = _to_frames(streaming.crossfade_seconds)
    past = prior_context
    if streaming.context_seconds is not None:
        past = _to_frames(streaming.context_seconds)
    # What the conversion of a whole recording looks ahead, by what it is for.
    full = (CONTEXT_FRAMES + fade, prior_context, CONTEXT_FRAMES)
    filter_ahead = 0
    if streaming.lookahead_seconds is None:
        render_ahead, prior_ahead, content_ahead = full
        if high_pass_hz:
            filter_ahead = math.ceil(FILTER_RINGING / high_pass_hz * FEATURE_RATE)
    else:
        ahead = _to_frames(streaming.lookahead_seconds)
        render_ahead, prior_ahead, content_ahead = _split_lookahead(ahead, full)
    prior = past + CONTEXT_FRAMES + chunk + render_ahead + prior_ahead
    return FramePlan(
        chunk,
        fade,
        render_ahead,
        prior_ahead,
        content_ahead,
        -(-prior // ATTENTION_RADIUS) * ATTENTION_RADIUS,
        filter_ahead,
    )


def check_streaming(config: ConvertConfig, streaming: StreamingConfig, rate: int) -> None:
    """Check the options of a stream.

    Args:
      config: Options of the conversion.
      streaming: The streaming configuration.
      rate: Sample rate of the input in Hz.

    Raises:
      UserError: for the first value that is out of its range, or an option that can't be followed
        before the recording has ended.
    """
    for field in dataclasses.fields(config):
        if field.name not in _FOLLOWED and getattr(config, field.name) != field.default:
            raise UserError(
                f"{option(field.name)} can't be followed in a stream: leave it at {field.default}"
            )
    if not 1000 <= rate <= 768000:
        raise UserError(
            f"a stream of {rate} samples a second is impossible: give 1000 to 768000"
        )
    ranges = {
        "chunk_seconds": (0.02, EXACT.chunk_seconds),
        "context_seconds": (0.48, 60),
        "lookahead_seconds": (0.02, 60),
        "crossfade_seconds": (0, streaming.chunk_seconds),
        "gain_db": (-60, 60),
    }
    for name, (least, most) in ranges.items():
        value = getattr(streaming, name)
        if value is not None and not least <= value <= most:
            raise UserError(
                f"{name} {value:g} is out of range: it must be from {least:g} to {most:g}"
            )
    lookahead = streaming.lookahead_seconds
    if lookahead is not None and streaming.crossfade_seconds > lookahead:
        raise UserError(
            f"crossfade_seconds {streaming.crossfade_seconds:g} is longer than "
            f"lookahead_seconds {lookahead:g}, within which it must lie"
        )


def _to_frames(seconds: float) -> int:
    """Seconds in frames: an even number, as a content feature belongs to two frames."""
    return 2 * round(seconds * FRAMES_PER_SECOND / 2)


def _split_lookahead(ahead: int, full: tuple[int, int, int]) -> tuple[int, int, int]:
    """Divide a lookahead: the decoder comes first, then the encoders and attention alike."""
    render = min(ahead, full[0])
    content = min((ahead - render) // 4 * 2, full[2])
    prior = min(ahead - render - content, full[1])
    return render, prior, content
