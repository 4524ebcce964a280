"""Two voices become one: a mixture of their weights, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.voices.model import VoiceModel

PARTS = {"prior": "enc_p", "flow": "flow", "decoder": "dec", "speakers": "emb_g"}
"""What a share can be given for, and its name in public checkpoints."""

_SPEAKERS = "emb_g.weight"


def merge_voices(
    first: VoiceModel, second: VoiceModel, share: float, shares: Mapping[str, float | None]
) -> VoiceModel:
    """share * first + (1 - share) * second, for every array of the networks: as RVC and Applio mix
    voices.

    share: 0..1. shares: others for some of PARTS. The result can't be trained further: it has no
    posterior encoder. Of different numbers of speakers, as many as both have are kept, under the
    first voice's names.

    Raises:
      UserError: the voices are of different kinds, or a share is out of its range.
    """
    _check(first, second)
    every = dict.fromkeys(PARTS, share) | {
        part: own for part, own in shares.items() if own is not None
    }
    for part, own in {"": share, **every}.items():
        if not 0 <= own <= 1:
            option = f"--ratio-{part}" if part else "--ratio"
            raise UserError(
                f"{option} {own:g} is out of range: it is the first voice's share, from 0 to 1"
            )
    of_prefix = {PARTS[part]: own for part, own in every.items()}
    rows = min(first.generator.speakers, second.generator.speakers)
    ours = _fitting(first, rows)
    theirs = _fitting(second, rows)
    weights = {
        name: _mixed(ours[name], theirs[name], of_prefix[name.partition(".")[0]])
        for name in ours
    }
    return dataclasses.replace(
        first,
        generator=dataclasses.replace(first.generator, speakers=rows),
        weights=weights,
        content_fingerprint=first.content_fingerprint or second.content_fingerprint,
        speakers=first.speakers[:rows],
        facts={"author": first.facts.get("author")}
        if first.facts.get("author") == second.facts.get("author")
        else {},
    )


def _mixed(ours: np.ndarray, theirs: np.ndarray, share: float) -> np.ndarray:
    if share in (0, 1):  # exactly the one or the other
        return ours if share else theirs
    return (share * ours.astype(np.float64) + (1 - share) * theirs.astype(np.float64)).astype(
        np.float32
    )


def _fitting(model: VoiceModel, rows: int) -> dict[str, np.ndarray]:
    weights = model.without_posterior().weights
    return weights | {_SPEAKERS: weights[_SPEAKERS][:rows]}


def _check(first: VoiceModel, second: VoiceModel) -> None:
    """Raises UserError with the first thing in which two voices are too different to be mixed."""
    facts = {
        "sample rate": lambda model: f"{model.audio.sample_rate} Hz",
        "version": lambda model: model.version,
        "pitch guidance": lambda model: (
            "with it" if model.generator.has_pitch else "without it"
        ),
        "content encoder": lambda model: model.content_encoder,
        "networks": lambda model: dataclasses.replace(model.generator, speakers=1),
    }
    for name, fact in facts.items():
        ours = fact(first)
        theirs = fact(second)
        if ours != theirs:
            told = "their sizes differ" if name == "networks" else f"{ours} and {theirs}"
            raise UserError(
                f"these two voices can't be merged: {name} must be the same ({told})"
            )
    prints = {model.content_fingerprint for model in (first, second)} - {None}
    if len(prints) > 1:
        raise UserError(
            f"these two voices can't be merged: both hear through {first.content_encoder}, but its weights differed"
        )
    for name, array in _fitting(first, 1).items():
        if name not in second.weights or second.weights[name].shape[1:] != array.shape[1:]:
            raise UserError(
                f"these two voices can't be merged: {name} is missing in one, or of another shape"
            )
