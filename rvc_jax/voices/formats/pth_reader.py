"""Voices as the RVC world has them, read: inference models, training checkpoints, pretrained
generators, and our own.

Nothing is believed that the weights do not bear out: the keys of the tools differ and lie now and
then, so version, pitch, speakers and sizes are those of the weights wherever they tell them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import CONTENT_ENCODERS, PRESETS, AudioConfig, GeneratorConfig, from_dict
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.parameters import to_classic_name
from rvc_jax.voices.formats import infer_sizes, legacy_values, safetensors_voice, sniff
from rvc_jax.voices.formats.sniff import FileKind
from rvc_jax.voices.model import (
    CONTENT_CHANNELS,
    PUBLIC_ENCODER,
    Version,
    VoiceModel,
    check_sizes,
    content_width,
    parse_config_list,
)
from rvc_jax.weights import safetensors_file, torch_file

VOICE = "voice"
CHECKPOINT = "training checkpoint of a generator"
PRETRAINED = "pretrained generator"
NATIVE_VOICE = "voice of rvc-jax"
VOICE_EXTENSIONS = (".pth", ".safetensors", ".zip", ".pt", ".ckpt")
"""Of files that voices are in."""

_WEIGHT = "weight"
_CONFIG = "config"
_MODEL = "model"
_CONTENT = "enc_p.emb_phone.weight"
_MOST_OF_CONFIG = 100
_NOT_FACTS = (
    _WEIGHT,
    _CONFIG,
    _MODEL,
    "state_dict",
    "optimizer",
    "scaler",
    "version",
    "f0",
    "speakers_id",
)
_NORMED = re.compile(
    r"(dec\.ups\.\d+|dec\.resblocks\.\d+\.convs[12]\.\d+|.+\.enc\.((in|res_skip)_layers\.\d+|cond_layer))\.weight"
)
"""Weights of a generator that have a norm of their own."""

_WRAPPERS = ("module.", "_orig_mod.", "net_g.", "model.")
_PLAIN_VOCODERS = (
    "hifi-gan",
    "hifigan",
    "hifi_gan",
    "nsf-hifi-gan",
    "nsf-hifigan",
    "default",
    "rvc",
)
_ELSEWHERE = "it opens in the tool that it was trained with"
_ENCODERS = {
    "hubert": PUBLIC_ENCODER,
    "hubert_base": PUBLIC_ENCODER,
    "hubert-base": PUBLIC_ENCODER,
    "contentvec_base": PUBLIC_ENCODER,
    "content-vec": PUBLIC_ENCODER,
    "vec768": PUBLIC_ENCODER,
    "spin_v2": "spin-v2",
    "spinv2": "spin-v2",
}
"""Names that the tools have for content encoders, where they are not ours."""


def read(
    path: str | Path, preset: str | None = None, content_encoder: str | None = None
) -> VoiceModel:
    """The voice in a file: `.pth` of any RVC tool, `G_*.pth`, a pretrained generator, our
    `.safetensors`.

    Args:
      path: of the file, or of a folder that `rvc-jax import` made.
      preset: whose sizes a checkpoint has that do not follow from its weights; found if they do.
      content_encoder: that the voice was trained with, instead of what the file says, or leaves
          unsaid.

    Raises:
      UserError: it holds no voice, is damaged, or is of an architecture that is not RVC's; the text
          tells what it is.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, also for names that are too long
        from rvc_jax.voices.formats import native

        return native.read(path)[0]
    try:
        model = _ours(path) if sniff.is_safetensors(path) else _foreign(path, preset)
        return _with_encoder(model, content_encoder)
    except _Not as kind:
        name, advice = kind.args[0]
        raise UserError(f"{path} is no voice: it is {name}; {advice}") from None
    except ValueError as reason:
        raise UserError(f"{path} is not a voice that can be opened: {reason}") from None


def read_discriminator(path: str | Path, model: VoiceModel) -> dict[str, np.ndarray]:
    """The weights of the discriminator that trained beside a voice, float32, under the public
    names.

    Raises:
      UserError: the file holds something else, or a discriminator of another version.
    """
    from rvc_jax.models.discriminator import Discriminator
    from rvc_jax.models.parameters import Network

    path = Path(path)
    try:
        weights = to_public_names(_arrays(_content(path)))
    except _Not as kind:
        raise UserError(
            f"{path} is no discriminator: it is {kind.args[0].name}; name the D_*.pth"
        ) from None
    if not any(name.startswith("discriminators.") for name in weights):
        what = "a generator" if _CONTENT in weights else "something else"
        raise UserError(
            f"{path} is no discriminator: it is {what}; name the D_*.pth that was saved with the G_*.pth"
        )
    for preset in PRESETS.values():
        shapes = Network(Discriminator(preset.discriminator)).public_shapes
        if shapes == {name: array.shape for name, array in weights.items()}:
            if preset.version != model.version:
                raise UserError(
                    f"{path} is of version {preset.version}, the voice is of {model.version}"
                )
            return {name: np.asarray(array, np.float32) for name, array in weights.items()}
    raise UserError(
        f"{path} is a discriminator of other sizes than RVC's: it can't be trained further here"
    )


def to_public_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under the names that they have in public files, whichever way the tool spells weight
    norms."""
    for wrapper in _WRAPPERS:
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    found = {}
    for name, array in arrays.items():
        name = to_classic_name(name)
        if (
            _NORMED.fullmatch(name) and array.ndim > 1
        ):  # a tool has multiplied the two parts of a weight norm out
            array = np.asarray(array, np.float32)
            axes = tuple(range(1, array.ndim))
            found[f"{name}_g"] = np.sqrt(np.sum(array**2, axis=axes, keepdims=True))
            name = f"{name}_v"
        found[name] = array
    return found


class _Not(Exception):
    """It holds no voice but a `Kind` of something else."""


# --- our own files
# ---------------------------------------------------------------------------------------------------


def _ours(path: Path) -> VoiceModel:
    texts = safetensors_file.metadata(path)
    weights = safetensors_file.read(path)
    if safetensors_voice.KEY not in texts:
        if kind := sniff.sniff_names(weights):
            raise _Not(kind)
        raise ValueError(
            "its header has nothing of a voice of rvc-jax; name the .pth that it was made from"
        )
    try:
        told = json.loads(texts[safetensors_voice.KEY])
        generator = from_dict(GeneratorConfig, told["generator"])
        audio = from_dict(AudioConfig, told["audio"])
        version = told["version"]
        encoder = told["content_encoder"]
        fingerprint = told["content_fingerprint"]
        speakers = told["speakers"]
        facts = told["facts"]
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
        raise ValueError(
            "what it tells of its voice is damaged, or from another version of rvc-jax"
        ) from None
    texts_told = [encoder, *([] if fingerprint is None else [fingerprint])]
    if (
        type(speakers) is not list
        or type(facts) is not dict
        or version not in list(CONTENT_CHANNELS)
    ):
        raise ValueError("what it tells of its voice is damaged")
    if not speakers or any(type(text) is not str for text in (*texts_told, *speakers)):
        raise ValueError("what it tells of its voice is damaged")
    check_sizes(generator, audio)
    facts = {"kind": NATIVE_VOICE} | facts
    return _checked(
        VoiceModel(
            generator, audio, version, weights, encoder, fingerprint, tuple(speakers), facts
        )
    )


# --- PyTorch files
# ---------------------------------------------------------------------------------------------------


def _foreign(path: Path, preset: str | None) -> VoiceModel:
    content = _content(path)
    kind = _kind_of(content)
    _check_vocoder(content)
    arrays = _arrays(content)
    weights = to_public_names(arrays)
    if other := sniff.sniff_names(arrays) or sniff.sniff_names(weights):
        raise _Not(other)
    if _CONTENT not in weights:
        raise ValueError(
            f"none of its arrays is one of RVC's (they are {sniff.list_first_names(weights)})"
        )
    version = infer_sizes.infer_version(weights, legacy_values.plain(content.get("version")))
    generator, audio = _sizes(content, weights, version, preset)
    facts = _facts(path, content, kind)
    speakers = _speakers(content, generator)
    encoder = _encoder_of(content)
    return _checked(
        VoiceModel(generator, audio, version, weights, encoder, None, speakers, facts)
    )


def _content(path: Path) -> Mapping[str, Any]:
    """What a PyTorch file holds, which is a mapping."""
    if sniff.is_archive(path):
        raise _Not(
            FileKind(
                "a zip archive that is no PyTorch file",
                f"name it {path.stem}.zip, and give it as it is",
            )
        )
    if kind := sniff.sniff_head(path):
        raise _Not(kind)
    content = torch_file.read(path, placeholders=legacy_values.is_harmless)
    if isinstance(content, torch_file.Opaque):
        raise _Not(
            FileKind(
                f"an object of the class {sanitize(content.name)}",
                "name a file of weights: a voice's .pth",
            )
        )
    if isinstance(content, np.ndarray):
        raise _Not(FileKind(f"a single array of shape {content.shape}", "name a voice's .pth"))
    if not isinstance(content, Mapping):
        raise _Not(
            FileKind(
                f"a {type(content).__name__} with nothing of a voice", "name a voice's .pth"
            )
        )
    return content


def _kind_of(content: Mapping[str, Any]) -> str:
    """Voice, checkpoint or pretrained generator. Raises `_Not` for an optimiser's state."""
    if isinstance(content.get(_WEIGHT), Mapping):
        return VOICE
    if {"param_groups", "state"} <= content.keys():
        raise _Not(
            FileKind(
                "an optimiser's state", "name the generator's G_*.pth, or the voice's .pth"
            )
        )
    if isinstance(content.get(_MODEL), Mapping):
        return CHECKPOINT if isinstance(content.get("optimizer"), Mapping) else PRETRAINED
    return PRETRAINED


def _arrays(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights, wherever a tool puts them."""
    for key in (_WEIGHT, _MODEL, "state_dict", "generator"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    arrays = {
        str(name): value for name, value in content.items() if isinstance(value, np.ndarray)
    }
    if not arrays:
        raise _Not(
            FileKind(
                f"a PyTorch file without weights (it has {sniff.list_first_names(content) or 'nothing'})",
                "name a voice's .pth",
            )
        )
    return arrays


def _check_vocoder(content: Mapping[str, Any]) -> None:
    """Raises `_Not` for a voice that says that it is another network, which the shapes of its
    weights may not show."""
    vocoder = legacy_values.plain(content.get("vocoder"))
    if isinstance(vocoder, str) and vocoder.lower().replace(" ", "-") not in _PLAIN_VOCODERS:
        raise _Not(
            FileKind(
                f"a voice with the vocoder {sanitize(vocoder)}",
                f"only HiFi-GAN is known here: {_ELSEWHERE}",
            )
        )
    for fork in ("vits2_mode", "v3_mode"):
        if legacy_values.plain(content.get(fork)):
            raise _Not(FileKind(f"a voice of a fork's own architecture ({fork})", _ELSEWHERE))


def _sizes(
    content: Mapping[str, Any],
    weights: dict[str, np.ndarray],
    version: Version,
    preset: str | None,
) -> tuple[GeneratorConfig, AudioConfig]:
    """As the file's config tells them, or, where it has none, the preset that has the same
    upsampling."""
    measured = infer_sizes.measured(weights)
    config = content.get(_CONFIG)
    if isinstance(config, (list, tuple)) and preset is None:
        values = [legacy_values.plain(value) for value in config[:_MOST_OF_CONFIG]]
        if values:
            values[-1] = (
                legacy_values.parse_sample_rate(values[-1])
                or legacy_values.parse_sample_rate(content.get("sr"))
                or values[-1]
            )
        generator, audio = parse_config_list(
            values,
            version,
            measured["has_pitch"],
            measured["content_channels"],
            measured["speakers"],
        )
        if differ := [
            name
            for name in measured
            if name in _TOLD and getattr(generator, name) != measured[name]
        ]:
            name = differ[0]
            told = getattr(generator, name)
            found = measured[name]
            raise ValueError(
                f"its config says {name.replace('_', ' ')} {told}, its weights have {found}"
            )
        return dataclasses.replace(generator, **measured), audio
    chosen = _preset(weights, version, preset)
    if measured["resblock_kernels"] != chosen.generator.resblock_kernels:
        raise ValueError(
            f"its residual blocks are not those of {chosen.name}, and it has no config to tell the rest"
        )
    sizes = dataclasses.replace(chosen.generator, **measured)
    check_sizes(sizes, chosen.audio)
    return sizes, chosen.audio


_TOLD = (
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
"""Sizes that a file's config tells, and its weights too."""


def _preset(weights: dict[str, np.ndarray], version: Version, name: str | None) -> Any:
    if name is not None:
        if name not in PRESETS:
            raise ValueError(
                f"there is no preset {sanitize(name)}; there are {', '.join(PRESETS)}"
            )
        if not infer_sizes.matches_upsampling(weights, PRESETS[name]):
            alike = ", ".join(preset.name for preset in infer_sizes.matching(weights, version))
            raise ValueError(
                f"it is not of --preset {name}{f': it is of {alike}' if alike else ''}"
            )
        return PRESETS[name]
    found = infer_sizes.matching(weights, version)
    if not found:
        kernels = infer_sizes.measured(weights)["upsample_kernels"]
        raise ValueError(
            f"it has no config, and its upsampling (kernels of {kernels}) is no preset's"
        )
    if (
        len({(preset.generator.upsample_rates, preset.audio.sample_rate) for preset in found})
        > 1
    ):
        names = " and of ".join(preset.name for preset in found)
        raise ValueError(
            f"its weights could be of {names}: say which with `rvc-jax import --preset`"
        )
    return found[0]


def _facts(path: Path, content: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found = legacy_values.facts(content, _NOT_FACTS)
    name = found.get("model_name")
    told = {"kind": kind, "name": name if isinstance(name, str) else sanitize(path.stem, 100)}
    epoch = found.get("epoch", found.get("iteration"))
    if epoch is None and (counted := re.match(r"(\d{1,9}) ?epoch", str(found.get("info", "")))):
        epoch = int(counted[1])
    told |= {"epoch": epoch} if type(epoch) is int else {}
    return told | {
        key: value
        for key, value in found.items()
        if key not in (*told, "iteration", "model_name")
    }


def _speakers(content: Mapping[str, Any], generator: GeneratorConfig) -> tuple[str, ...]:
    """A name for each, empty: no tool tells them. Where the file does not tell how many, all that
    there is room for."""
    told = legacy_values.plain(content.get("speakers_id"))
    return ("",) * (
        told if type(told) is int and 0 < told <= generator.speakers else generator.speakers
    )


def _encoder_of(content: Mapping[str, Any]) -> str:
    """The file's word for its content encoder, as we name it if we know it; checked when the voice
    is whole."""
    told = legacy_values.plain(content.get("embedder_model"))
    if not isinstance(told, str) or not told:
        return PUBLIC_ENCODER
    name = told.lower().replace("_", "-") if told not in _ENCODERS else _ENCODERS[told]
    return _ENCODERS.get(name, name)


# --- what holds for both
# ---------------------------------------------------------------------------------------------


def _with_encoder(model: VoiceModel, named: str | None) -> VoiceModel:
    """With the content encoder that is named, or the file's; its features must be as wide as the
    voice's are."""
    encoder = named or model.content_encoder
    width = content_width(encoder, model.version)
    if width is None and named is None and not model.content_fingerprint:
        raise ValueError(
            f"it was trained with the content encoder {sanitize(encoder)!r}, which is not known here (known are "
            f"{', '.join(CONTENT_ENCODERS)}): `rvc-jax import --content-encoder` takes its folder, its file or "
            "OWNER/NAME on the Hugging Face hub"
        )
    if width not in (None, model.generator.content_channels):
        raise ValueError(
            f"its content features have {model.generator.content_channels} channels, those of {encoder} have {width}: "
            "name the one that it was trained with in `rvc-jax import --content-encoder`"
        )
    known = model.content_fingerprint if encoder == model.content_encoder else None
    return dataclasses.replace(model, content_encoder=encoder, content_fingerprint=known)


def _checked(model: VoiceModel) -> VoiceModel:
    """With weights in float32, whole, finite, and of the shapes that the sizes ask for.

    Raises ValueError.
    """
    shapes = model.network().public_shapes
    weights = model.weights
    missing = [name for name in shapes if name not in weights]
    unknown = [name for name in weights if name not in shapes]
    other = [name for name in shapes if name in weights and weights[name].shape != shapes[name]]
    if missing:
        raise ValueError(f"it is not whole: {_listed(missing)} missing")
    if unknown:
        raise ValueError(f"it has parts that RVC's network lacks: {_listed(unknown)} unknown")
    if other:
        found = weights[other[0]].shape
        wanted = shapes[other[0]]
        raise ValueError(
            f"its sizes do not fit together: {other[0]} has the shape {found}, not {wanted}"
        )
    if odd := [
        name
        for name, array in weights.items()
        if array.dtype.kind not in "fV" or array.dtype.itemsize > 8
    ]:
        raise ValueError(
            f"{odd[0]} is of {weights[odd[0]].dtype}: weights are floating-point numbers"
        )
    weights = {name: np.asarray(weights[name], np.float32) for name in shapes}
    if broken := sum(int((~np.isfinite(array)).sum()) for array in weights.values()):
        raise ValueError(
            f"it is broken: {broken} of its numbers are not finite; take an earlier checkpoint"
        )
    return dataclasses.replace(model, weights=weights)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return sanitize(names[0], 80) + more
