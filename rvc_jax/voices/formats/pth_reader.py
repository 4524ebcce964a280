"""Reads voices of RVC tools: inference models, training checkpoints, pretrained generators.

The keys of the tools differ, and some are wrong. So the weights decide: version, pitch, speakers
and sizes are theirs wherever their shapes determine them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import PRESETS, AudioConfig, GeneratorConfig
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network, to_classic_name
from rvc_jax.voices.encoders import normalize_name
from rvc_jax.voices.formats import infer_sizes, legacy_values, sniff
from rvc_jax.voices.formats.infer_sizes import KnownSizes
from rvc_jax.voices.formats.sniff import NotAVoiceError
from rvc_jax.voices.model import (
    PUBLIC_ENCODER,
    Version,
    VoiceModel,
    normalize_weights,
)
from rvc_jax.weights import torch_file

VOICE = "voice"
CHECKPOINT = "training checkpoint of a generator"
PRETRAINED = "pretrained generator"

_CONTENT = "enc_p.emb_phone.weight"
_MAX_CONFIG_LENGTH = 100
_NOT_FACTS = (
    "weight",
    "config",
    "model",
    "state_dict",
    "optimizer",
    "scaler",
    "version",
    "f0",
    "speakers_id",
)
_READ = (*_NOT_FACTS, "speaker_info", "_metadata")
_MAX_OTHER_KEYS = 20

_WITH_WEIGHT_NORM = re.compile(
    r"(dec\.ups\.\d+|dec\.resblocks\.\d+\.convs[12]\.\d+|"
    r".+\.enc\.((in|res_skip)_layers\.\d+|cond_layer))\.weight"
)
"""Weights of a generator that have a norm of their own."""

_WRAPPERS = ("module.", "_orig_mod.", "net_g.", "model.")
"""Prefixes that PyTorch and its tools put before every name."""

_HIFI_GAN = (
    "hifi-gan",
    "hifigan",
    "hifi_gan",
    "nsf-hifi-gan",
    "nsf-hifigan",
    "default",
    "rvc",
)
"""Names of the one vocoder that is known here."""

_ELSEWHERE = "it opens in the tool that it was trained with"
_ENCODER_KEYS = (
    "embedder_model",
    "embedder_name",
    "embedder",
    "content_encoder",
)
"""Where tools write the content encoder."""

_LAYER_KEYS = ("embedder_output_layer", "embOutputLayer", "output_layer")
"""Where they write its layer."""

_V1_LAYER = 9
_LAST_LAYER = 12

_IN_CONFIG_AND_WEIGHTS = (
    "inter_channels",
    "hidden_channels",
    "filter_channels",
    "attention_heads",
    "attention_layers",
    "attention_kernel",
    "resblock_kernels",
    "upsample_initial_channels",
    "upsample_kernels",
    "speaker_channels",
)
"""Sizes that the file's config states and the weights determine, too."""


def read(path: str | Path, preset: str | None = None) -> VoiceModel:
    """Read the voice in a PyTorch file: `.pth` of any RVC tool, `G_*.pth`, pretrained generator.

    Args:
      preset: The preset with the sizes of a checkpoint that neither states nor determines them.

    Raises:
      UserError: The file holds something else, is damaged, or has another architecture than RVC's;
        the text says what it is.
    """
    path = Path(path)
    with sniff.voice_errors(path):
        content = _read_content(path)
        return parse_content(content, path.stem, preset, _find_kind(content))


def read_discriminator(path: str | Path, model: VoiceModel) -> dict[str, np.ndarray]:
    """Read the discriminator that was trained beside a voice: float32 under the public names.

    Raises:
      UserError: The file holds something else, or a discriminator of another version.
    """
    path = Path(path)
    try:
        weights = to_public_names(_find_arrays(_read_content(path)))
    except NotAVoiceError as error:
        raise UserError(
            f"{path} is not a discriminator: it is {error.kind.name}; name the D_*.pth"
        ) from None
    if not any(name.startswith("discriminators.") for name in weights):
        what = "a generator" if _CONTENT in weights else "something else"
        raise UserError(
            f"{path} is not a discriminator: it is {what}; name the D_*.pth that was saved with "
            "the G_*.pth"
        )
    shapes = {name: array.shape for name, array in weights.items()}
    for preset in PRESETS.values():
        if Network(Discriminator(preset.discriminator)).public_shapes != shapes:
            continue
        if preset.version != model.version:
            raise UserError(
                f"{path} is of version {preset.version}, the voice is of {model.version}"
            )
        return {name: np.asarray(array, np.float32) for name, array in weights.items()}
    raise UserError(
        f"{path} is a discriminator of other sizes than RVC's: it can't be trained further here"
    )


def to_public_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename arrays as public files have them, whichever way a tool spells weight norms."""
    for wrapper in _WRAPPERS:
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    found = {}
    for wrapped_name, array in arrays.items():
        name = to_classic_name(wrapped_name)
        if _WITH_WEIGHT_NORM.fullmatch(name) and array.ndim > 1:
            # The tool has multiplied the two parts of the weight norm: the kernel's own norm and
            # the kernel itself give the same product.
            array = np.asarray(array, np.float32)
            axes = tuple(range(1, array.ndim))
            found[f"{name}_g"] = np.sqrt(np.sum(array**2, axis=axes, keepdims=True))
            name = f"{name}_v"
        found[name] = array
    return found


# --- the parts of a file ---


def parse_content(
    content: Mapping[str, Any], stem: str, preset: str | None, kind: str
) -> VoiceModel:
    """Make a voice of what a file of an RVC tool holds.

    Args:
      content: Weights and settings by the tool's keys.
      stem: Name of the file, for a voice without a name.
      preset: As for `read`.
      kind: VOICE, CHECKPOINT or PRETRAINED.

    Raises:
      NotAVoiceError, ValueError: It is something else, or damaged.
    """
    _check_vocoder(content)
    arrays = _find_arrays(content)
    weights = to_public_names(arrays)
    other = sniff.sniff_names(arrays) or sniff.sniff_names(weights)
    if other:
        raise NotAVoiceError(*other)
    if _CONTENT not in weights:
        raise ValueError(
            f"none of its arrays is one of RVC's (they are {sniff.list_first_names(weights)})"
        )
    version = infer_sizes.infer_version(weights, legacy_values.to_plain(content.get("version")))
    generator, audio = _find_sizes(content, weights, version, preset)
    return normalize_weights(
        VoiceModel(
            generator=generator,
            audio=audio,
            version=version,
            weights=weights,
            content_encoder=_find_encoder(content),
            content_layer=_find_layer(content, version),
            speakers=_name_speakers(content, generator),
            facts=_find_facts(stem, content, kind),
        )
    )


def _read_content(path: Path) -> Mapping[str, Any]:
    """Read a PyTorch file that holds a mapping. Raises UserError or NotAVoiceError."""
    if sniff.is_archive(path):
        raise NotAVoiceError(
            "a zip archive that is not a PyTorch file",
            f"name it {path.stem}.zip, and give it as it is",
        )
    kind = sniff.sniff_head(path)
    if kind:
        raise NotAVoiceError(*kind)
    content = torch_file.read(path, placeholders=legacy_values.is_harmless)
    if isinstance(content, torch_file.Opaque):
        raise NotAVoiceError(
            f"an object of the class {sanitize(content.name)}",
            "name a file of weights: a voice's .pth",
        )
    if isinstance(content, np.ndarray):
        raise NotAVoiceError(f"a single array of shape {content.shape}", "name a voice's .pth")
    if not isinstance(content, Mapping):
        raise NotAVoiceError(
            f"a {type(content).__name__} without anything of a voice", "name a voice's .pth"
        )
    return content


def _find_kind(content: Mapping[str, Any]) -> str:
    """VOICE, CHECKPOINT or PRETRAINED. Raises NotAVoiceError for an optimizer's state."""
    if isinstance(content.get("weight"), Mapping):
        return VOICE
    if {"param_groups", "state"} <= content.keys():
        raise NotAVoiceError(
            "an optimizer's state", "name the generator's G_*.pth, or the voice's .pth"
        )
    has_optimizer = isinstance(content.get("optimizer"), Mapping)
    return (
        CHECKPOINT
        if isinstance(content.get("model"), Mapping) and has_optimizer
        else PRETRAINED
    )


def _find_arrays(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    state = torch_file.find_state_dict(content)
    arrays = {
        str(name): value for name, value in state.items() if isinstance(value, np.ndarray)
    }
    if not arrays:
        names = sniff.list_first_names(state) or "nothing"
        raise NotAVoiceError(
            f"a PyTorch file without weights (it has {names})", "name a voice's .pth"
        )
    return arrays


def _check_vocoder(content: Mapping[str, Any]) -> None:
    """Raise NotAVoiceError for a voice of another network, which its shapes may not show."""
    vocoder = legacy_values.to_plain(content.get("vocoder"))
    if isinstance(vocoder, str) and vocoder.lower().replace(" ", "-") not in _HIFI_GAN:
        raise NotAVoiceError(
            f"a voice with the vocoder {sanitize(vocoder)}",
            sniff.other_vocoder_advice(vocoder),
        )
    version = str(legacy_values.to_plain(content.get("version")))
    if version.startswith("voras"):
        raise NotAVoiceError("a voice of VoRAS, another architecture", _ELSEWHERE)
    for fork in ("vits2_mode", "v3_mode"):
        if legacy_values.to_plain(content.get(fork)):
            raise NotAVoiceError(f"a voice of a fork's own architecture ({fork})", _ELSEWHERE)


def _find_facts(stem: str, content: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found = legacy_values.extract_facts(content, _NOT_FACTS)
    name = found.get("model_name")
    facts: dict[str, Any] = {
        "kind": kind,
        "name": name if isinstance(name, str) else sanitize(stem, 100),
    }
    for key in ("epoch", "iteration", "step", "info"):
        name = "step" if key == "step" else "epoch"
        count = _parse_count(found.get(key))
        if count is not None:
            facts.setdefault(name, count)
    for key, value in found.items():
        if key not in facts and key not in ("iteration", "model_name", "epoch", "step"):
            facts[key] = value
    unread = [sanitize(key, 40) for key in content if key not in _READ and key not in found]
    if unread and kind == VOICE:
        facts["other_keys"] = unread[:_MAX_OTHER_KEYS]
    return facts


def _parse_count(value: Any) -> int | None:
    """Parse 200, "200", "200epoch" or "e200"; None for anything else."""
    if type(value) is int:
        return value
    counted = re.match(
        r"\s*[a-z]?(\d{1,9})\s*(e|epochs?|s|steps?)?\s*$", str(value), re.IGNORECASE
    )
    return int(counted[1]) if counted else None


def _name_speakers(content: Mapping[str, Any], generator: GeneratorConfig) -> tuple[str, ...]:
    """The speakers' names; empty ones where the file has none, as in most.

    ddPn08's rvc-webui writes names by number. A file that does not say how many speakers there are
    has as many as its table has rows.
    """
    stated = content.get("speaker_info")
    if isinstance(stated, Mapping) and 0 < len(stated) <= generator.speakers:
        names = {str(number): sanitize(name, 100) for number, name in stated.items()}
        if all(str(number) in names for number in range(len(names))):
            return tuple(names[str(number)] for number in range(len(names)))
    count = legacy_values.to_plain(content.get("speakers_id"))
    if type(count) is not int or not 0 < count <= generator.speakers:
        count = generator.speakers
    return ("",) * count


def _find_encoder(content: Mapping[str, Any]) -> str:
    """Our name of the file's content encoder, or the file's own for one that is not known here."""
    keys = _ENCODER_KEYS
    if legacy_values.to_text(content.get("embedder_model")).lower() == "custom":
        keys = ("embedder_model_custom", *keys)
    for key in keys:
        # Not `to_plain`: a path may have characters that a terminal must not get, and is kept.
        stated = legacy_values.to_text(content.get(key))
        if stated:
            return normalize_name(stated)
    return PUBLIC_ENCODER


def _find_layer(content: Mapping[str, Any], version: Version) -> int | None:
    """The layer of the content encoder that the file states; None if it is the version's own.

    Raises ValueError for a layer that can't be.
    """
    own = _V1_LAYER if version == "v1" else _LAST_LAYER
    for key in _LAYER_KEYS:
        stated = legacy_values.to_plain(content.get(key))
        if type(stated) is str and stated.isdecimal() and len(stated) < 4:
            stated = int(stated)
        if stated is None or stated == own:
            continue
        if type(stated) is not int or not 1 <= stated <= 64:
            raise ValueError(
                f"its {key} is {sanitize(stated)}, which is not the number of a layer"
            )
        return stated
    return None


# --- its sizes ---


def _find_sizes(
    content: Mapping[str, Any],
    weights: dict[str, np.ndarray],
    version: Version,
    preset: str | None,
) -> tuple[GeneratorConfig, AudioConfig]:
    """The sizes of the file's config, or, without one, of the preset with the same upsampling."""
    inferred = infer_sizes.infer_sizes(weights)
    config = content.get("config")
    if isinstance(config, (list, tuple)) and preset is None:
        return _parse_config(content, config, version, inferred)
    chosen = _choose_sizes(weights, version, preset)
    if inferred["resblock_kernels"] != chosen.generator.resblock_kernels:
        raise ValueError(
            f"its residual blocks are not those of {chosen.name}, and it has no config to give "
            "the rest"
        )
    sizes = dataclasses.replace(chosen.generator, **inferred)
    infer_sizes.check_sizes(sizes, chosen.audio)
    return sizes, chosen.audio


def _parse_config(
    content: Mapping[str, Any],
    config: list[Any] | tuple[Any, ...],
    version: Version,
    inferred: dict[str, Any],
) -> tuple[GeneratorConfig, AudioConfig]:
    values = [legacy_values.to_plain(value) for value in config[:_MAX_CONFIG_LENGTH]]
    if values:
        # The sample rate comes last, and is spelled in many ways.
        values[-1] = (
            legacy_values.parse_sample_rate(values[-1])
            or legacy_values.parse_sample_rate(content.get("sr"))
            or values[-1]
        )
    generator, audio = infer_sizes.parse_config_list(
        values,
        version,
        inferred["has_pitch"],
        inferred["content_channels"],
        inferred["speakers"],
    )
    for name, found in inferred.items():
        stated = getattr(generator, name)
        if name in _IN_CONFIG_AND_WEIGHTS and stated != found:
            raise ValueError(
                f"its config says {name.replace('_', ' ')} {stated}, its weights have {found}"
            )
    return dataclasses.replace(generator, **inferred), audio


def _choose_sizes(
    weights: dict[str, np.ndarray], version: Version, name: str | None
) -> KnownSizes:
    """The preset that the user names, or the known sizes that have the weights' upsampling."""
    if name is not None and name not in PRESETS:
        raise ValueError(f"there is no preset {sanitize(name)}; there are {', '.join(PRESETS)}")
    found = infer_sizes.find_known_sizes(weights, version)
    for known in found:
        if known.name == name:
            return known
    if name is not None:
        alike = ", ".join(preset.name for preset in found)
        raise ValueError(
            f"it is not of --preset {name}{f': it is of {alike}' if alike else ''}"
        )
    if not found:
        kernels = infer_sizes.infer_sizes(weights)["upsample_kernels"]
        raise ValueError(
            f"it has no config, and no preset has its upsampling (kernels of {kernels})"
        )
    kinds = {(preset.generator.upsample_rates, preset.audio.sample_rate) for preset in found}
    if len(kinds) > 1:
        names = " and of ".join(preset.name for preset in found)
        raise ValueError(
            f"its weights could be of {names}: say which with `rvc-jax import --preset`"
        )
    return found[0]
