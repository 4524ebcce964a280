"""Voices on the accelerator."""

from __future__ import annotations

import numpy as np
from micro import MICRO
from public_files import small_voice
from untrained_voices import untrained_voice

from rvc_jax.infer.compiled_voice import CompiledVoice


def test_a_voice_from_a_file_is_prepared_as_rvc_prepares_speech() -> None:
    """Without pitch, the method that needs no download is taken: its result is not used."""
    voice = CompiledVoice(small_voice("48k", posterior=True, has_pitch=False))
    assert voice.prepare.preset == "48k" and voice.prepare.f0_method == "swift"
    assert voice.median_f0(2) == 0.0
    assert not voice.model.has_posterior


def test_an_index_without_rows_is_none() -> None:
    rows = np.zeros((0, 384), np.float32)
    assert CompiledVoice(untrained_voice(MICRO, index=rows)).index is None


def test_speakers_are_mixed_by_their_shares() -> None:
    model = untrained_voice(MICRO)
    table = model.weights["emb_g.weight"]
    mixed = CompiledVoice(model).embed_speakers({0: 0.25, 1: 0.75})
    np.testing.assert_allclose(mixed[0], 0.25 * table[0] + 0.75 * table[1], rtol=1e-5)
