"""Which chips compute in bfloat16."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from rvc_jax.models.precision import compute_dtype, has_bfloat16


@pytest.mark.parametrize(
    ("platform", "capability", "has"),
    [
        ("cpu", None, False),
        ("tpu", None, True),
        ("gpu", "7.5", False),
        ("gpu", "8.0", True),
        ("gpu", "9.0", True),
        ("gpu", "12.0", True),
        ("gpu", "gfx90a", True),
    ],
)
def test_chips(platform: str, capability: str | None, has: bool) -> None:
    device = (
        SimpleNamespace(platform=platform)
        if capability is None
        else SimpleNamespace(platform=platform, compute_capability=capability)
    )
    assert has_bfloat16(device) == has


def test_what_is_asked_for_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        jax, "devices", lambda: [SimpleNamespace(platform="gpu", compute_capability="7.5")]
    )
    assert compute_dtype("auto") == jnp.float32
    assert compute_dtype("bfloat16") == jnp.bfloat16
