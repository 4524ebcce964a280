"""Merges two voices into one: a mixture of their weights, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.voices.encoders import is_known, show
from rvc_jax.voices.model import VoiceModel

PARTS = {"prior": "enc_p", "flow": "flow", "decoder": "dec", "speakers": "emb_g"}
"""The parts that can have a share of their own, and their names in public checkpoints."""

_SPEAKERS = "emb_g.weight"


def merge_voices(
    first: VoiceModel, second: VoiceModel, share: float, shares: Mapping[str, float | None]
) -> VoiceModel:
    """Compute share * first + (1 - share) * second for every weight, as RVC and Applio do.

    Where the voices have different numbers of speakers, the smaller number is kept, under the first
    voice's names. The result has no posterior encoder, so it can't be trained further, and no
    index.

    Args:
      share: The first voice's share, 0 to 1.
      shares: Other shares for some of PARTS.

    Raises:
      UserError: The voices are of different kinds, or a share is out of range.
    """
    _check_voices(first, second)
    own = {part: value for part, value in shares.items() if value is not None}
    share_of_part = dict.fromkeys(PARTS, share) | own
    for part, value in {"": share, **share_of_part}.items():
        if not 0 <= value <= 1:
            option = f"--ratio-{part}" if part else "--ratio"
            raise UserError(
                f"{option} {value:g} is out of range: it is the first voice's share, from 0 to 1"
            )
    share_of_prefix = {PARTS[part]: value for part, value in share_of_part.items()}
    speakers = min(first.generator.speakers, second.generator.speakers)
    ours = _select_weights(first, speakers)
    theirs = _select_weights(second, speakers)
    weights = {
        name: _interpolate(array, theirs[name], share_of_prefix[name.partition(".")[0]])
        for name, array in ours.items()
    }
    author = first.facts.get("author")
    return VoiceModel(
        generator=dataclasses.replace(first.generator, speakers=speakers),
        audio=first.audio,
        version=first.version,
        weights=weights,
        content_encoder=first.content_encoder,
        content_fingerprint=first.content_fingerprint or second.content_fingerprint,
        content_layer=first.content_layer,
        speakers=first.speakers[:speakers],
        facts={"author": author} if author == second.facts.get("author") else {},
    )


def _name_encoder(model: VoiceModel) -> str:
    encoder = model.content_encoder
    return encoder if is_known(encoder) else show(encoder)


def _interpolate(ours: np.ndarray, theirs: np.ndarray, share: float) -> np.ndarray:
    if share == 1:  # exactly the one or the other, without rounding
        return ours
    if share == 0:
        return theirs
    mixed = share * ours.astype(np.float64) + (1 - share) * theirs.astype(np.float64)
    return mixed.astype(np.float32)


def _select_weights(model: VoiceModel, speakers: int) -> dict[str, np.ndarray]:
    """The weights that conversion uses, with the first rows of the table of speakers."""
    weights = model.without_posterior().weights
    return weights | {_SPEAKERS: weights[_SPEAKERS][:speakers]}


def _check_voices(first: VoiceModel, second: VoiceModel) -> None:
    """Raise UserError with the first thing in which two voices are too different to be merged."""
    facts: dict[str, Callable[[VoiceModel], Any]] = {
        "sample rate": lambda model: f"{model.audio.sample_rate} Hz",
        "version": lambda model: model.version,
        "pitch guidance": lambda model: (
            "with it" if model.generator.has_pitch else "without it"
        ),
        "content encoder": _name_encoder,
        "layer of the content encoder": lambda model: model.content_layer or "the last",
        "networks": lambda model: dataclasses.replace(model.generator, speakers=1),
    }
    if first.content_fingerprint and first.content_fingerprint == second.content_fingerprint:
        del facts["content encoder"]  # the same one in two places
    for name, get_fact in facts.items():
        ours = get_fact(first)
        theirs = get_fact(second)
        if ours != theirs:
            reason = "their sizes differ" if name == "networks" else f"{ours} and {theirs}"
            raise UserError(
                f"these two voices can't be merged: {name} must be the same ({reason})"
            )
    fingerprints = {model.content_fingerprint for model in (first, second)} - {None}
    if len(fingerprints) > 1:
        raise UserError(
            f"these two voices can't be merged: both use the content encoder "
            f"{first.content_encoder}, but its weights differed"
        )
    for name, array in _select_weights(first, 1).items():
        if name not in second.weights or second.weights[name].shape[1:] != array.shape[1:]:
            raise UserError(
                f"these two voices can't be merged: {name} is missing in one, or of another shape"
            )
