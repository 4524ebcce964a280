"""Load the pretrained networks that a run starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import PRESETS, GeneratorConfig, Preset
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.parameters import Parameters, to_classic_name
from rvc_jax.models.vocoders import find_other_vocoder
from rvc_jax.train.networks import Networks
from rvc_jax.weights import bundled, registry, safetensors_file, store, torch_file

_KINDS = bundled.NETWORKS
_CONTENT = "enc_p.emb_phone.weight"
"""Layer that reads the content features [hidden, content channels]."""
_SPECTRAL_CONTENT = "enc_p.weight"
"""The same of the preset small."""
_GAINS = "dec.gains.weight"
"""Last layer of a generator of the preset small; those of the others lack it."""
_PITCH = "enc_p.emb_pitch.weight"
SPEAKERS = "emb_g.weight"
"""Embeddings of the speakers [speakers, channels]."""
_POSTERIOR = "enc_q."
_UNKNOWN_FORMAT = "another voice format"


def load_initial_parameters(networks: Networks) -> tuple[Parameters, Parameters, list[str]]:
    """Load or draw the parameters that a new run starts from.

    Returns:
      Parameters of the synthesizer and of the discriminator, and a sentence for each network that
      does not start from scratch.

    Raises:
      UserError: a file is missing and can't be downloaded, does not read, or holds another
        network.
    """
    preset = networks.preset
    parameters = []
    notes = []
    for kind, network in zip(
        _KINDS, (networks.synthesizer, networks.discriminator), strict=True
    ):
        fresh = network.init(preset.train.seed)
        file = _find_file(preset, kind)
        if file is None:
            parameters.append(fresh)
            continue
        public, note = _fit_to_network(read(file), network.to_public(fresh), file, preset)
        parameters.append(network.from_public(public))
        digest = store.fingerprint(file)[:8]
        notes.append(f"starting from the {kind} {file.name} ({digest}){note}")
    generator, discriminator = parameters
    return generator, discriminator, notes


def read(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .pth or .safetensors file, by the names of RVC.

    The file is a training checkpoint, a pretrained network or a voice.

    Raises:
      UserError: it does not read, or holds no arrays.
    """
    reader = safetensors_file if file.suffix == ".safetensors" else torch_file
    content = reader.read(file)
    state = torch_file.find_state_dict(content) if isinstance(content, Mapping) else {}
    arrays = {
        to_classic_name(name): value
        for name, value in state.items()
        if isinstance(value, np.ndarray)
    }
    if not arrays:
        raise UserError(
            f"{file} holds no network: name the .pth of a pretrained generator or discriminator"
        )
    return arrays


def check(preset: Preset) -> None:
    """Check, before anything is written for a new run, that its pretrained files can be had.

    Raises UserError if one can't.
    """
    for kind in _KINDS:
        _find_file(preset, kind)


def hash_pretrained_files(preset: Preset) -> dict[str, str]:
    """Return name and SHA-256 of the files that a new run starts from, by network.

    A network that starts from scratch is left out.
    """
    files = {kind: _find_file(preset, kind) for kind in _KINDS}
    return {
        kind: f"{file.name} {store.fingerprint(file)}"
        for kind, file in files.items()
        if file is not None
    }


def _find_file(preset: Preset, kind: str) -> Path | None:
    """Return the file that a network starts from, downloaded if need be; None: from scratch."""
    recipe = preset.train
    named = getattr(recipe, f"pretrained_{kind}")
    if named:
        if not Path(named).is_file():
            raise UserError(f"there is no file {sanitize(named)} to start from")
        return Path(named)
    if recipe.pretrained == "none":
        return None
    base = bundled.find_base(preset.name, kind)
    if base is not None:
        return base
    prefix = f"f0{kind[0].upper()}"  # f0G40k, f0D40k
    known = [name for name in registry.names_for(preset) if name.startswith(prefix)]
    if not known:
        return None
    try:
        return store.path(known[0])
    except UserError as error:
        raise UserError(
            f"the pretrained {kind} of {preset.name} is not here: {error}. Bring it with "
            f"`rvc-jax download {known[0]}`, or train from scratch with --pretrained none, which "
            "takes far more speech and time"
        ) from error


def _fit_to_network(
    found: dict[str, np.ndarray], fresh: dict[str, np.ndarray], file: Path, preset: Preset
) -> tuple[dict[str, np.ndarray], str]:
    """Adapt the arrays of a file to a network.

    Args:
      found: arrays of the file.
      fresh: arrays of the network, freshly drawn, by the same names.
      file: for messages.
      preset: of the run.

    Returns:
      Arrays of the network, and a note about what stays fresh, empty if nothing does.

    Raises:
      UserError: the file holds another network.
    """
    note = ""
    file_format = _describe_format(found)
    for layer in (_CONTENT, _SPECTRAL_CONTENT):
        if layer not in fresh or layer not in found:
            continue
        file_channels = found[layer].shape[1]
        channels = fresh[layer].shape[1]
        if file_channels != channels:
            note += (
                f"; its content features have {file_channels} channels, this voice's have "
                f"{channels}: the layer that reads them starts from scratch"
            )
            found = found | {layer: fresh[layer]}
    if (
        SPEAKERS in fresh
        and SPEAKERS in found
        and found[SPEAKERS].shape[1:] == fresh[SPEAKERS].shape[1:]
    ):
        speakers, remark = _fit_speakers(found[SPEAKERS], fresh[SPEAKERS])
        note += remark
        found = found | {SPEAKERS: speakers}
    _check_network(found, fresh, file, preset, file_format)
    return {name: found[name] for name in fresh}, note


def _fit_speakers(found: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, str]:
    """Return as many embeddings as a run has speakers, and a note about those that stay fresh."""
    found = found.astype(np.float32)
    if len(found) == 1:
        # A base voice has the mean of its speakers, from which every new speaker is near.
        return np.repeat(found, len(fresh), axis=0), ""
    rows = min(len(found), len(fresh))
    speakers = np.concatenate([found[:rows], fresh[rows:]])
    if len(speakers) == rows:
        return speakers, ""
    return speakers, f"; it has {rows} speakers: the others start from scratch"


def _check_network(
    found: dict[str, np.ndarray],
    fresh: dict[str, np.ndarray],
    file: Path,
    preset: Preset,
    file_format: str,
) -> None:
    """Raise a UserError that says what a file is, unless its arrays are those of the network."""
    missing = [name for name in fresh if name not in found]
    vocoder = find_other_vocoder(found) if _CONTENT in found else None
    if vocoder is not None:
        raise UserError(
            f"{file} is a generator with {vocoder}, and this run's has HiFi-GAN: name a pretrained "
            "network with HiFi-GAN"
        )
    if SPEAKERS in found and SPEAKERS in fresh and (_GAINS in found) != (_GAINS in fresh):
        raise UserError(
            f"{file} is of {file_format}, this run is of {preset.name}, which has other networks: "
            f"name a network of {preset.name}, or train with the preset of the file"
        )
    if len(missing) == len(fresh):
        raise UserError(
            f"{file} is another kind of network: none of its arrays is one of this run's"
        )
    if any(not np.isfinite(value).all() for value in found.values() if value.dtype.kind == "f"):
        raise UserError(f"{file} is a broken network: some of its numbers are not finite")
    if _PITCH in missing:
        raise UserError(
            f"{file} was trained without pitch, this run is with it: name a network with pitch "
            "(f0G...)"
        )
    unknown = [
        name for name in found if name.startswith("discriminators.") and name not in fresh
    ]
    if unknown or any(name.startswith("discriminators.") for name in missing):
        file_parts = _count_discriminators(found)
        parts = _count_discriminators(fresh)
        raise UserError(
            f"{file} is a discriminator of {file_parts} parts, this run's has {parts} (RVC v1 has "
            f"7, v2 has 9): name one of {preset.name}"
        )
    if missing:
        is_voice = all(name.startswith(_POSTERIOR) for name in missing)
        reason = (
            "a voice lacks the posterior encoder, and cannot be trained further: name"
            if is_voice
            else "name"
        )
        raise UserError(
            f"{file} is not a whole network ({missing[0]} and {len(missing) - 1} more are "
            f"missing); {reason} a pretrained network or a training checkpoint"
        )
    different = [name for name in fresh if found[name].shape != fresh[name].shape]
    if different:
        name = different[0]
        raise UserError(
            f"{file} is of {file_format}, this run is of {preset.name}: name a network of "
            f"{preset.name}, or train with the preset of the file ({name} is {found[name].shape}, "
            f"not {fresh[name].shape})"
        )


def _count_discriminators(arrays: Mapping[str, Any]) -> int:
    return len({name.split(".")[1] for name in arrays if name.startswith("discriminators.")})


def _describe_format(found: Mapping[str, Any]) -> str:
    """Name the presets whose sizes a generator has."""
    if _GAINS in found:
        return "small"
    if _PITCH not in found:
        return _UNKNOWN_FORMAT
    names = [f"dec.ups.{i}.weight_v" for i in range(9)]
    kernels = [found[name].shape[2] for name in names if name in found]
    widths = [found[name].shape[1] for name in (_CONTENT,) if name in found]
    matching = [
        preset.name
        for preset in PRESETS.values()
        if isinstance(preset.generator, GeneratorConfig)
        and list(preset.generator.upsample_kernels) == kernels
        and [preset.generator.content_channels] == widths
    ]
    return " or ".join(matching) or _UNKNOWN_FORMAT
