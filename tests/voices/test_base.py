"""The base voice as a voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_base import use_base
from micro import MICRO_SMALL

from rvc_jax.errors import UserError
from rvc_jax.voices.base import open_base
from rvc_jax.weights import safetensors_file


def test_it_has_the_weights_of_the_file_and_one_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = use_base(monkeypatch, MICRO_SMALL, tmp_path)
    base = open_base("small")
    stored = safetensors_file.read(files["generator"])
    assert set(base.weights) == set(stored) and base.weights["emb_g.weight"].shape == (1, 4)
    for name, array in base.weights.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.float32(stored[name]))
    assert base.generator.speakers == len(base.speakers) == 1
    assert (base.content_encoder, base.index) == ("whisper-tiny", None)
    assert base.prepare is not None and base.prepare.f0_method == "swift"


def test_a_preset_without_one_and_a_damaged_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = use_base(monkeypatch, MICRO_SMALL, tmp_path)
    with pytest.raises(UserError, match="no base voice for the preset nano"):
        open_base("nano")
    arrays = safetensors_file.read(files["generator"])
    arrays.pop("emb_g.weight")
    safetensors_file.write(files["generator"], arrays)
    with pytest.raises(UserError, match="can't be used: it is not whole"):
        open_base("small")
