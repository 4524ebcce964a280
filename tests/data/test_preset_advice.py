"""Advice on what this machine can train."""

from __future__ import annotations

import pytest

from rvc_jax.config import PRESETS, PresetName
from rvc_jax.data.preset_advice import advise_on_preset


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_cpu_is_for_the_small_presets(preset: PresetName) -> None:
    assert advise_on_preset(preset, "tpu") == advise_on_preset(preset, "gpu") == ""
    advice = advise_on_preset(preset, "cpu")
    assert ("prepare with --preset small" in advice) == (preset not in ("small", "nano"))
