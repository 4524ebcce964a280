"""Settings of a run: what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from rvc_jax.config import TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.train.resume import check_recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"freeze": "decoder"}, "enc_p, enc_q"),
        ({"ema": 1.0}, "--ema"),
        ({"clip_norm": -1.0}, "--clip-norm"),
        ({"steps": -1}, "--steps"),
        ({"discriminator_every": 0}, "--discriminator-every"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_recipe(dataclasses.replace(TrainConfig(), **changes))
