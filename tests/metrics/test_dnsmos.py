"""DNSMOS beside the package speechmos, and with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.reading import load
from rvc_jax.errors import UserError
from rvc_jax.metrics.dnsmos import WEIGHTS, Dnsmos
from rvc_jax.weights import store

needs_models = pytest.mark.skipif(
    Dnsmos.find() is None, reason="the package speechmos (or its models) is not here"
)


@needs_models
def test_opinions_are_those_of_speechmos_fall_with_noise_and_are_means_over_pieces(
    other_clip: Path,
) -> None:
    """The expected scores are those of speechmos 0.0.1.1's `dnsmos.run` on the same samples."""
    model = Dnsmos.find()
    clip = load(other_clip, 16000)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    noisy = np.clip(clip + noise, -1, 1)
    expected = {
        "clean": (3.60232, 3.92382, 3.24239, 3.75514),
        "noisy": (2.81745, 1.60656, 1.62387, 2.40301),
    }
    np.testing.assert_allclose(model(clip), expected["clean"], atol=0.005)
    np.testing.assert_allclose(model(noisy), expected["noisy"], atol=0.005)
    np.testing.assert_allclose(
        model(clip[:16000]), (3.41664, 3.40882, 2.82930, 3.12365), atol=0.005
    )
    two_pieces = model(np.concatenate([clip, noisy])[: 16000 * 11])  # from 0 s and from 1 s
    assert expected["noisy"][2] < two_pieces.overall < expected["clean"][2]


def test_without_models_there_is_none_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "sig_bak_ovr.onnx").write_bytes(b"no model")
    with pytest.raises(
        UserError, match="sig_bak_ovr.onnx is no model that onnxruntime can run"
    ):
        Dnsmos(tmp_path)
    monkeypatch.setattr(store, "find", lambda name: {}[name] if name != WEIGHTS else None)
    assert Dnsmos.find() is None
