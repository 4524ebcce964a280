"""What to do about the parts of recordings that preparation drops."""

from __future__ import annotations

from collections.abc import Iterable

from rvc_jax.config import PrepareConfig


def advise_on_drops(reasons: Iterable[str | None], config: PrepareConfig) -> list[str]:
    """Return a sentence for every kind of reason that the user can do something about.

    Args:
      reasons: of `data.dataset.Drop`, repeated as they are.
      config: the settings of the preparation.
    """
    advice = {
        "silent": f"nothing in it is above --silence-db {config.silence_db:g}, which is lowered "
        "for a recording that is quiet as a whole; lower it if soft speech is lost, and check "
        "channel and track of a file that is silent throughout",
        "too loud": "samples beyond full scale: export the file again as 16 or 24 bit, or raise "
        f"--max-peak {config.max_peak:g}",
        "clipped": "recorded too loud: record with peaks of -12 to -6 dB, or raise "
        f"--max-clipped {config.max_clipped:g}",
        "no speech": "the voice activity detector heard none: lower --vad-threshold "
        f"{config.vad_threshold:g} or --vad-min-speech {config.vad_min_speech:g}, or leave out "
        "--vad",
        "shorter than": "lower --min-slice if single words are wanted",
        "non-finite samples": "samples that are not numbers: export the file again",
    }
    given = {str(reason) for reason in reasons}
    return [
        f"{kind}: {text}"
        for kind, text in advice.items()
        if any(reason.startswith(kind) for reason in given)
    ]
