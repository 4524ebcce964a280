"""Networks that somebody trained before, as a run's beginning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import PRESETS, Preset
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.parameters import Network, Parameters, to_classic_name
from rvc_jax.train.step import Networks
from rvc_jax.weights import registry, safetensors_file, store, torch_file

_KINDS = ("generator", "discriminator")
_CONTENT = "enc_p.emb_phone.weight"
_SPEAKERS = "emb_g.weight"


def load_initial_parameters(networks: Networks) -> tuple[Parameters, Parameters, list[str]]:
    """Parameters that a new run starts from, of both networks, and a sentence for each that is not
    from scratch.

    Raises:
      UserError: a file is not there and cannot be had, is none, or is of another voice format.
    """
    preset = networks.preset
    parameters = []
    notes = []
    for kind, network in zip(
        _KINDS, (networks.synthesizer, networks.discriminator), strict=True
    ):
        fresh = network.init(preset.train.seed)
        file = _file(preset, kind)
        if file is None:
            parameters.append(fresh)
            continue
        public, left = _fitted(network, read(file), network.to_public(fresh), file, preset)
        parameters.append(network.from_public(public))
        notes.append(
            f"starting from the {kind} {file.name} ({store.fingerprint(file)[:8]}){left}"
        )
    return *parameters, notes


def read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .pth or .safetensors, by the names of RVC: a training checkpoint's, a
    pretrained network's or a voice's.

    Raises UserError.
    """
    content = (safetensors_file if file.suffix == ".safetensors" else torch_file).read(file)
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
    """Raises UserError if a new run's files are not there and cannot be had; before anything is
    written for it."""
    for kind in _KINDS:
        _file(preset, kind)


def hash_pretrained_files(preset: Preset) -> dict[str, str]:
    """Name and SHA-256 of the file that a new run's generator and its discriminator start from,
    where there is one."""
    files = {kind: _file(preset, kind) for kind in _KINDS}
    return {
        kind: f"{file.name} {store.fingerprint(file)}"
        for kind, file in files.items()
        if file is not None
    }


def _file(preset: Preset, kind: str) -> Path | None:
    recipe = preset.train
    if named := getattr(recipe, f"pretrained_{kind}"):
        if not Path(named).is_file():
            raise UserError(f"there is no file {sanitize(named)} to start from")
        return Path(named)
    letter = f"f0{kind[0].upper()}"
    known = [name for name in registry.names_for(preset) if name.startswith(letter)]
    if recipe.pretrained == "none" or not known:
        return None
    try:
        return store.path(known[0])
    except UserError as error:
        raise UserError(
            f"the pretrained {kind} of {preset.name} is not here: {error}. Bring it with `rvc-jax download {known[0]}`"
            ", or train from scratch with --pretrained none, which takes far more speech and time"
        ) from error


def _fitted(
    network: Network,
    found: dict[str, np.ndarray],
    fresh: dict[str, np.ndarray],
    file: Path,
    preset: Preset,
) -> tuple[dict[str, np.ndarray], str]:
    """The file's arrays in the network's shapes, and what of the network stays fresh, in words."""
    left = ""
    of_file = _format_of(found)
    if (
        _CONTENT in fresh
        and _CONTENT in found
        and found[_CONTENT].shape[1] != fresh[_CONTENT].shape[1]
    ):
        widths = (
            f"{found[_CONTENT].shape[1]} channels, this voice's have {fresh[_CONTENT].shape[1]}"
        )
        left += f"; its content features have {widths}: the layer that reads them starts from scratch"
        found = found | {_CONTENT: fresh[_CONTENT]}
    if (
        _SPEAKERS in fresh
        and _SPEAKERS in found
        and found[_SPEAKERS].shape[1:] == fresh[_SPEAKERS].shape[1:]
    ):
        rows = min(len(found[_SPEAKERS]), len(fresh[_SPEAKERS]))
        speakers = np.concatenate(
            [found[_SPEAKERS][:rows].astype(np.float32), fresh[_SPEAKERS][rows:]]
        )
        if len(speakers) > rows:
            left += f"; it has {rows} speakers: the others start from scratch"
        found = found | {_SPEAKERS: speakers}
    missing = [name for name in fresh if name not in found]
    if len(missing) == len(fresh):
        raise UserError(
            f"{file} is another kind of network: none of its arrays is one of this run's"
        )
    if any(not np.isfinite(value).all() for value in found.values() if value.dtype.kind == "f"):
        raise UserError(f"{file} is a broken network: some of its numbers are not finite")
    if "enc_p.emb_pitch.weight" in missing:
        raise UserError(
            f"{file} was trained without pitch, this run is with it: name a network with pitch (f0G...)"
        )
    unknown = [
        name for name in found if name.startswith("discriminators.") and name not in fresh
    ]
    if unknown or any(name.startswith("discriminators.") for name in missing):
        counts = [
            len({name.split(".")[1] for name in names if name.startswith("discr")})
            for names in (found, fresh)
        ]
        raise UserError(
            f"{file} is a discriminator of {counts[0]} parts, this run's has {counts[1]} (RVC v1 has 7, v2 has 9): "
            f"name one of {preset.name}"
        )
    if missing:
        raise UserError(
            f"{file} is not a whole network ({missing[0]} and {len(missing) - 1} more are missing); a voice lacks the "
            "posterior encoder, and cannot be trained further: name a pretrained network or a training checkpoint"
        )
    other = [name for name in fresh if found[name].shape != fresh[name].shape]
    if other:
        raise UserError(
            f"{file} is of {of_file}, this run is of {preset.name}: name a network of {preset.name}, or train "
            f"with the preset of the file ({other[0]} is {found[other[0]].shape}, not {fresh[other[0]].shape})"
        )
    return {name: found[name] for name in fresh}, left


def _format_of(found: Mapping[str, Any]) -> str:
    """The presets whose upsampling a generator has, or whose periods a discriminator."""
    if "enc_p.emb_pitch.weight" not in found:
        return "another voice format"
    kernels = [
        found[name].shape[2] for i in range(9) if (name := f"dec.ups.{i}.weight_v") in found
    ]
    widths = [found[name].shape[1] for name in (_CONTENT,) if name in found]
    alike = [
        preset.name
        for preset in PRESETS.values()
        if list(preset.generator.upsample_kernels) == kernels
        and [preset.generator.content_channels] == widths
    ]
    return " or ".join(alike) or "another voice format"
