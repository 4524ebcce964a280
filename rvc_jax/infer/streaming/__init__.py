"""Conversion while the recording is still coming in."""

from rvc_jax.infer.streaming.converter import StreamingConverter
from rvc_jax.infer.streaming.options import EXACT, LOW_LATENCY, StreamingConfig

__all__ = ["EXACT", "LOW_LATENCY", "StreamingConfig", "StreamingConverter"]
