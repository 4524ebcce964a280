"""Which preset this machine can train."""

from __future__ import annotations

from rvc_jax.config import CPU_PRESETS, PresetName


def advise_on_preset(preset: PresetName, platform: str) -> str:
    """Return what to do about a preset that this machine can't train in reasonable time.

    An empty string if it can. The dataset may be meant for another machine, so that this is advice
    and no error.

    preset: of a dataset. platform: of JAX's devices here, such as "cpu".
    """
    if platform != "cpu" or preset in CPU_PRESETS:
        return ""
    return (
        f"this machine has no accelerator, and a voice of {preset} takes days to train on it: "
        f"prepare with --preset {CPU_PRESETS[0]} for a voice that trains here in minutes, or train "
        "on a TPU or GPU"
    )
