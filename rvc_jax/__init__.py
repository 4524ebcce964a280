"""RVC voices in JAX: speech of one person in, a voice model out."""

from __future__ import annotations

from rvc_jax.version import __version__

TYPE_CHECKING = (
    False  # as type checkers know it; `typing` alone would double the time of this import
)
if TYPE_CHECKING:
    from rvc_jax.errors import UserError
    from rvc_jax.infer.api import load_voice
    from rvc_jax.infer.streaming.options import EXACT, LOW_LATENCY, StreamingConfig
    from rvc_jax.infer.voice import Voice

__all__ = [
    "EXACT",
    "LOW_LATENCY",
    "StreamingConfig",
    "UserError",
    "Voice",
    "__version__",
    "load_voice",
]

_MODULES = {
    "EXACT": "rvc_jax.infer.streaming.options",
    "LOW_LATENCY": "rvc_jax.infer.streaming.options",
    "StreamingConfig": "rvc_jax.infer.streaming.options",
    "UserError": "rvc_jax.errors",
    "Voice": "rvc_jax.infer.voice",
    "load_voice": "rvc_jax.infer.api",
}


def __getattr__(name: str) -> object:
    """Import what needs JAX when it is used: `import rvc_jax` itself takes no time."""
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
