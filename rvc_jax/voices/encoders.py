"""The content encoder of a voice: its name or path, its layer, and whether it is the right one.

Every RVC tool has ContentVec. A voice may have been trained with another encoder, which is named in
its file, or by the user. A place that only the file names is never contacted.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from rvc_jax.config import CONTENT_ENCODERS
from rvc_jax.errors import UserError, make_printable
from rvc_jax.features.content import ContentEncoder, load_content_encoder
from rvc_jax.voices.model import CONTENT_CHANNELS, PUBLIC_ENCODER, Version, VoiceModel
from rvc_jax.weights import store

_MAX_SHOWN = 400
_OPTION = "--content-encoder takes its folder, its file or OWNER/NAME on the Hugging Face hub"
_WHISPER_CHANNELS = {"whisper-tiny": 384, "whisper-base": 512, "whisper-small": 768}
_ALIASES = {
    "hubert": PUBLIC_ENCODER,
    "hubert-base": PUBLIC_ENCODER,
    "contentvec-base": PUBLIC_ENCODER,
    "content-vec": PUBLIC_ENCODER,
    "content-vec-best": PUBLIC_ENCODER,
    "vec": PUBLIC_ENCODER,
    "spinv2": "spin-v2",
    "hubert-base-japanese": "japanese-hubert-base",
    "hubert-jp": "japanese-hubert-base",
    "hubert-base-jp": "japanese-hubert-base",
}
"""Other tools' names of content encoders, in our spelling, and ours."""


def normalize_name(stated: str) -> str:
    """Return our name of the encoder that a file states, or what it states, unchanged."""
    spelled = stated.strip().lower().replace("_", "-")
    # ddPn08's rvc-webui writes the channels behind the name.
    short = spelled.removesuffix("768").removesuffix("-")
    for name in (spelled, short):
        name = _ALIASES.get(name, name)
        if name in CONTENT_ENCODERS:
            return name
    return stated


def is_known(encoder: str) -> bool:
    """Whether an encoder is one of those that this program has by name."""
    return encoder in CONTENT_ENCODERS


def show(encoder: str) -> str:
    """Return the name or path of an encoder for a message: nothing in it is doubled or changed."""
    shown = make_printable(encoder)
    return f"'{shown if len(shown) <= _MAX_SHOWN else '...' + shown[-_MAX_SHOWN:]}'"


def content_width(encoder: str, version: Version) -> int | None:
    """Return the channels of an encoder's features, for a version of voices; None if unknown."""
    if not is_known(encoder):
        return None
    return _WHISPER_CHANNELS.get(encoder, CONTENT_CHANNELS[version])


def with_content_encoder(model: VoiceModel, named: str | None) -> VoiceModel:
    """Set the content encoder to the one that the user names, or keep the file's.

    A path becomes absolute, so that it holds in any folder. If the voice knows the hash of its
    encoder, it stays, and is compared when the encoder is loaded.

    Raises:
      UserError: There is no such encoder, or the width of its features is not the voice's.
    """
    if named is None:
        return model
    model = dataclasses.replace(model, content_encoder=_locate(named))
    _check_width(model, content_width(model.content_encoder, model.version))
    return model


def _check_width(model: VoiceModel, width: int | None) -> None:
    """Raise UserError unless the features of the encoder have the voice's channels, or unknown."""
    if width not in (None, model.generator.content_channels):
        raise UserError(
            f"the voice takes content features of {model.generator.content_channels} channels, "
            f"those of {_shown_name(model)} have {width}: name the encoder that it was trained "
            "with in --content-encoder"
        )


def pin_encoder(model: VoiceModel) -> VoiceModel:
    """Load a voice's encoder, check that it fits, and keep the hash of its weights.

    Raises:
      UserError: It is missing or damaged, or its features have another width.
    """
    fingerprint = _load(dataclasses.replace(model, content_fingerprint=None)).fingerprint
    return dataclasses.replace(model, content_fingerprint=fingerprint)


def load_voice_encoder(model: VoiceModel) -> ContentEncoder:
    """Load the content encoder that a voice was trained with.

    Raises:
      UserError: Its weights are missing, or are other ones than in training: the voice would
        render gibberish.
    """
    encoder = _load(model)
    if model.content_fingerprint not in (None, encoder.fingerprint):
        raise UserError(
            f"{_shown_name(model)} is not the content encoder that this voice was trained with: "
            "its weights are other ones; name the right one with --content-encoder, or import the "
            "voice again"
        )
    return encoder


def _load(model: VoiceModel) -> ContentEncoder:
    name = model.content_encoder
    if not is_known(name) and not _is_here(name):
        raise UserError(
            f"the voice was trained with the content encoder {show(name)}, which is not here: "
            f"{_OPTION}"
        )
    # Before it is loaded, and perhaps downloaded.
    _check_width(model, content_width(name, model.version))
    encoder = load_content_encoder(name, model.version, model.content_layer)
    _check_width(model, encoder.channels)
    return encoder


def _shown_name(model: VoiceModel) -> str:
    name = model.content_encoder
    return name if is_known(name) else show(name)


def _is_here(name: str) -> bool:
    """Whether an encoder that may be named by a file alone is on this machine.

    Only full paths count, and no path of another machine.
    """
    if re.match(r"[\\/]{2}", name) or not os.path.isabs(name):  # noqa: PTH117
        return store.is_hub_name(name) and store.find_hub_model(name) is not None
    return os.path.exists(name)  # noqa: PTH110  (a name may be too long to be a path)


def _locate(named: str) -> str:
    """Return the full path of an encoder that the user names, or its name. Hub models are fetched.

    Raises UserError if there is none.
    """
    known = normalize_name(named)
    path = os.path.expanduser(named)  # noqa: PTH111
    if is_known(named):
        return named
    if os.path.exists(path):  # noqa: PTH110
        return str(Path(path).absolute())
    if is_known(known):
        return known
    if store.is_hub_name(named):
        store.hub_model(named)
        return named
    raise UserError(
        f"there is no content encoder {show(named)}: known are {', '.join(CONTENT_ENCODERS)}; "
        f"{_OPTION}"
    )


def check_encoder(
    trained: str, fingerprint: str | None, version: Version, named: str | None
) -> None:
    """Check the encoder that a user names against the one of a run. None: nothing is named.

    Args:
      trained: Name or path of the run's encoder.
      fingerprint: Hash of its weights.
      version: Version of the run's voice.
      named: What the user names.

    Raises:
      UserError: It is missing, or another one.
    """
    if named is None:
        return
    found = load_content_encoder(_locate(named), version)
    if fingerprint not in (None, found.fingerprint):
        raise UserError(
            f"{show(named)} is not the content encoder {show(trained)} that the run was trained "
            "with: its weights are other ones"
        )
