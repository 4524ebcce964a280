"""RVC voices in JAX: speech of one person in, a voice model out."""

from __future__ import annotations

from rvc_jax.version import __version__

TYPE_CHECKING = (
    False  # as type checkers know it; `typing` alone would double the time of this import
)
if TYPE_CHECKING:
    from rvc_jax.infer.api import SpeakingVoice, load_voice

__all__ = ["SpeakingVoice", "__version__", "load_voice"]


def __getattr__(name: str) -> object:
    """What needs JAX is imported when it is asked for: `import rvc_jax` itself takes no time."""
    if name in ("SpeakingVoice", "load_voice"):
        from rvc_jax.infer import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
