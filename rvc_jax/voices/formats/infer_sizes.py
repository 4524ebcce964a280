"""Infers the sizes of a voice's networks from the shapes of its weights and its config list.

The shapes determine everything but the dilations of the residual blocks and the upsampling rates.
For a voice with pitch the rates of all stages but the first follow from the convolutions that bring
the harmonic source to each stage's rate. The rest, and the sample rate, come from the 18 values of
the file's config, or from the preset with the same upsampling.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.config import (
    FRAMES_PER_SECOND,
    PRESETS,
    AnyGeneratorConfig,
    AudioConfig,
    GeneratorConfig,
    SpectralGeneratorConfig,
)
from rvc_jax.models.spectral_sizes import check_spectral_sizes
from rvc_jax.voices.model import CONTENT_CHANNELS, Version, VoiceModel

_MAX_LAYERS = 64
_MAX_SIZE = 1 << 20
_SEGMENT = 32  # at every rate; no tool reads it
_DROPOUT = 0
_RESBLOCK = "1"
_NOT_A_SIZE = "its config holds a value that can't be a size"
_MIN_FRAME_RATE = 50
_MAX_FRAME_RATE = 200


class KnownSizes(NamedTuple):
    """Sizes of networks that need no config: those of a preset, or of another tool."""

    name: str
    version: Version
    audio: AudioConfig
    generator: GeneratorConfig


def _others(
    name: str, audio: AudioConfig, rates: tuple[int, ...], kernels: tuple[int, ...]
) -> list[KnownSizes]:
    versions: list[tuple[Version, int]] = [
        ("v1", CONTENT_CHANNELS["v1"]),
        ("v2", CONTENT_CHANNELS["v2"]),
    ]
    return [
        KnownSizes(
            name if version == "v2" else f"{name}-v1",
            version,
            audio,
            GeneratorConfig(rates, kernels, content_channels=channels),
        )
        for version, channels in versions
    ]


_OTHER_TOOLS = (
    # Applio and Vietnamese-RVC; it has no preset, since nothing is trained so here.
    *_others("24k", AudioConfig(24000, 1024, 80, 36), (10, 6, 2, 2), (20, 12, 4, 4)),
    # Applio of December 2024.
    *_others("44k", AudioConfig(44100, 2048, 128, 36), (7, 7, 3, 3), (14, 14, 6, 6)),
    # Vietnamese-RVC, with frames of 512 samples.
    *_others("44k-512", AudioConfig(44100, 2048, 128, 36), (8, 8, 2, 2, 2), (16, 16, 4, 4, 4)),
)


# --- from the weights ---


def infer_version(weights: Mapping[str, np.ndarray], stated: str | None = None) -> Version:
    """Infer v1 or v2 from the width of the content features, or else from what the file states."""
    width = get_shape(weights, "enc_p.emb_phone.weight", 2)[1]
    if width == CONTENT_CHANNELS["v1"]:
        return "v1"
    if width == CONTENT_CHANNELS["v2"]:
        return "v2"
    return "v1" if stated == "v1" else "v2"


def has_pitch(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether the voice takes a pitch beside the content features."""
    return "enc_p.emb_pitch.weight" in weights


def infer_sizes(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Infer the fields of `GeneratorConfig`, all but upsampling rates and dilations.

    Raises:
      ValueError: A weight that determines a size is missing or has an impossible shape; the message
        says which.
    """
    attention = "enc_p.encoder.attn_layers.0"
    hidden, content = get_shape(weights, "enc_p.emb_phone.weight", 2)
    _, relative, head = get_shape(weights, f"{attention}.emb_rel_k", 3)
    filters, _, kernel = get_shape(weights, "enc_p.encoder.ffn_layers.0.conv_1.weight", 3)
    speakers, speaker_channels = get_shape(weights, "emb_g.weight", 2)
    initial, inter, _ = get_shape(weights, "dec.conv_pre.weight", 3)
    stages = count_layers(weights, r"dec\.ups\.(\d+)\.weight_v")
    blocks = count_layers(weights, r"dec\.resblocks\.(\d+)\.convs1\.0\.weight_v")
    if not stages or not blocks or blocks % stages:
        raise ValueError(f"its decoder has {stages} stages and {blocks} residual blocks")
    sizes = {
        "content_channels": content,
        "inter_channels": inter,
        "hidden_channels": hidden,
        "filter_channels": filters,
        "attention_heads": hidden // max(head, 1),
        "attention_layers": count_layers(
            weights, r"enc_p\.encoder\.attn_layers\.(\d+)\.emb_rel_k"
        ),
        "attention_kernel": kernel,
        "attention_window": relative // 2,
        # Couplings have even numbers; the odd ones between them reverse the channels.
        "flow_steps": -(-count_layers(weights, r"flow\.flows\.(\d+)\.pre\.weight", 2) // 2),
        "flow_layers": count_layers(
            weights, r"flow\.flows\.0\.enc\.in_layers\.(\d+)\.weight_v"
        ),
        "flow_kernel": get_shape(weights, "flow.flows.0.enc.in_layers.0.weight_v", 3)[2],
        "speaker_channels": speaker_channels,
        "speakers": speakers,
        "upsample_kernels": tuple(
            get_shape(weights, f"dec.ups.{stage}.weight_v", 3)[2] for stage in range(stages)
        ),
        "upsample_initial_channels": initial,
        "resblock_kernels": tuple(
            get_shape(weights, f"dec.resblocks.{block}.convs1.0.weight_v", 3)[2]
            for block in range(blocks // stages)
        ),
        "has_pitch": has_pitch(weights),
    }
    if "enc_q.pre.weight" in weights:
        posterior = "enc_q.enc.in_layers"
        sizes["posterior_layers"] = count_layers(
            weights, r"enc_q\.enc\.in_layers\.(\d+)\.weight_v"
        )
        sizes["posterior_kernel"] = get_shape(weights, f"{posterior}.0.weight_v", 3)[2]
    return sizes


def list_known_sizes() -> list[KnownSizes]:
    """List the sizes of the presets, and those of other tools."""
    presets = [
        KnownSizes(preset.name, preset.version, preset.audio, preset.generator)
        for preset in PRESETS.values()
        if isinstance(preset.generator, GeneratorConfig)
    ]
    return [*presets, *_OTHER_TOOLS]


def find_known_sizes(weights: Mapping[str, np.ndarray], version: Version) -> list[KnownSizes]:
    """Find the known sizes with the upsampling of the weights: of the version, or else of any.

    Raises ValueError as `infer_sizes` does.
    """
    fitting = [known for known in list_known_sizes() if matches_upsampling(weights, known)]
    # A voice without pitch leaves rates open: the common ones come first.
    alike = [known for known in fitting if known.name in PRESETS] or fitting
    return [known for known in alike if known.version == version] or alike


def matches_upsampling(weights: Mapping[str, np.ndarray], known: KnownSizes) -> bool:
    """Whether the shapes of the decoder and of the posterior encoder fit known sizes."""
    sizes = known.generator
    if infer_sizes(weights)["upsample_kernels"] != sizes.upsample_kernels:
        return False
    if "enc_q.pre.weight" in weights:
        bins = get_shape(weights, "enc_q.pre.weight", 3)[1]
        if bins != known.audio.spectrogram_bins:
            return False
    strides = infer_source_strides(weights)
    rates = sizes.upsample_rates
    expected = [math.prod(rates[stage + 1 :]) for stage in range(len(rates))]
    return not strides or strides == expected


def infer_source_strides(weights: Mapping[str, np.ndarray]) -> list[int]:
    """Infer the upsampling that is left after every stage; empty for a voice without pitch."""
    stages = count_layers(weights, r"dec\.noise_convs\.(\d+)\.weight")
    kernels = [
        get_shape(weights, f"dec.noise_convs.{stage}.weight", 3)[2] for stage in range(stages)
    ]
    # Twice the stride, and one fewer for an odd one: see `models.generator.source_kernel`.
    return [(kernel + 1) // 2 for kernel in kernels]


def get_shape(weights: Mapping[str, np.ndarray], name: str, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a weight. Raises ValueError if it is missing or has other dimensions."""
    if name not in weights:
        raise ValueError(f"it has no {name}")
    if weights[name].ndim != dimensions:
        raise ValueError(f"its {name} has {weights[name].ndim} dimensions, not {dimensions}")
    return weights[name].shape


def count_layers(weights: Mapping[str, np.ndarray], pattern: str, step: int = 1) -> int:
    """Return one more than the largest layer number among weights of a name; 0 without any.

    Args:
      pattern: The name, with the number as its group.
      step: Difference between one number and the next.

    Raises:
      ValueError: The numbers have gaps, or there are more than in any voice.
    """
    # Four digits at most: int() of a very long number would take for ever.
    bounded = re.compile(pattern.replace(r"\d+", r"\d{1,4}"))
    numbers = {int(found[1]) for name in weights if (found := bounded.fullmatch(name))}
    if numbers != set(range(0, len(numbers) * step, step)):
        readable = pattern.replace("\\", "")
        raise ValueError(f"its layers are not numbered as a voice's are ({readable})")
    if len(numbers) > _MAX_LAYERS:
        raise ValueError("it has more layers than any voice")
    return max(numbers, default=-1) + 1


# --- from the config list ---


def to_config_list(model: VoiceModel) -> list[Any]:
    """List the 18 sizes of a public voice file, in their order."""
    sizes = model.rvc_sizes
    return [
        model.audio.spectrogram_bins,
        _SEGMENT,
        sizes.inter_channels,
        sizes.hidden_channels,
        sizes.filter_channels,
        sizes.attention_heads,
        sizes.attention_layers,
        sizes.attention_kernel,
        _DROPOUT,
        _RESBLOCK,
        list(sizes.resblock_kernels),
        [list(dilations) for dilations in sizes.resblock_dilations],
        list(sizes.upsample_rates),
        sizes.upsample_initial_channels,
        list(sizes.upsample_kernels),
        sizes.speakers,
        sizes.speaker_channels,
        model.audio.sample_rate,
    ]


def parse_config_list(
    values: Sequence[Any],
    version: Version,
    has_pitch: bool,
    content_channels: int,
    speakers: int,
) -> tuple[GeneratorConfig, AudioConfig]:
    """Parse the 18 sizes of a public voice file; the values may be anything at all.

    A list of 19 is that of ddPn08's rvc-webui, which has the content channels before the rate.

    Args:
      has_pitch, content_channels, speakers: As the weights have them, which decide.

    Raises:
      ValueError: They are not the sizes of a voice; the message says why.
    """
    if len(values) == 19:
        values = [*values[:17], values[18]]
    if len(values) != 18:
        raise ValueError(f"its config has {len(values)} entries, not 18")
    bins, _, inter, hidden, filters, heads, layers, kernel, _, block, *decoder = values
    kernels, dilations, rates, initial, up_kernels, _, speaker_channels, sample_rate = decoder
    if str(block) != _RESBLOCK:
        raise ValueError(f"its residual blocks are of kind {block!r}; only kind 1 is known")
    try:
        generator = GeneratorConfig(
            upsample_rates=tuple(rates),
            upsample_kernels=tuple(up_kernels),
            content_channels=content_channels,
            inter_channels=inter,
            hidden_channels=hidden,
            filter_channels=filters,
            attention_heads=heads,
            attention_layers=layers,
            attention_kernel=kernel,
            speaker_channels=speaker_channels,
            speakers=speakers,
            upsample_initial_channels=initial,
            resblock_kernels=tuple(kernels),
            resblock_dilations=tuple(map(tuple, dilations)),
            has_pitch=has_pitch,
        )
        audio = audio_config_for(int(sample_rate), version, 2 * (bins - 1))
    except TypeError:
        raise ValueError(_NOT_A_SIZE) from None
    check_sizes(generator, audio)
    return generator, audio


def audio_config_for(
    sample_rate: int, version: Version, n_fft: int | None = None
) -> AudioConfig:
    """Return the audio config of the preset with a rate and version, or of the nearest one.

    Args:
      n_fft: Transform length of the voice, if it differs from the preset's.
    """
    alike = [known for known in list_known_sizes() if known.audio.sample_rate == sample_rate]
    same_version = [known for known in alike if known.version == version]
    nearest = (same_version or alike or list_known_sizes())[0]
    audio = dataclasses.replace(nearest.audio, sample_rate=sample_rate)
    return audio if n_fft is None else dataclasses.replace(audio, n_fft=n_fft)


# --- checks ---


def check_sizes(generator: AnyGeneratorConfig, audio: AudioConfig) -> None:
    """Raise ValueError, with the reason, unless a voice can have these sizes.

    The fields come from a file and may hold anything at all.
    """
    try:
        _check_counts(generator, audio)
    except TypeError:
        raise ValueError(_NOT_A_SIZE) from None
    if isinstance(generator, SpectralGeneratorConfig):
        check_spectral_sizes(generator, audio)
        return
    _check_upsampling(generator, audio)
    if generator.hidden_channels % generator.attention_heads or generator.inter_channels % 2:
        raise ValueError(
            "its channels cannot be shared out between its attention's heads, or its flow's halves"
        )
    kernels = generator.resblock_kernels
    if len(kernels) != len(generator.resblock_dilations):
        raise ValueError("its residual blocks have not as many kernels as dilations")
    if not kernels or any(kernel % 2 == 0 for kernel in kernels):
        raise ValueError(
            f"its residual blocks have kernels of {kernels}, which are not all odd"
        )


def _check_counts(generator: AnyGeneratorConfig, audio: AudioConfig) -> None:
    counts: list[Any] = [audio.sample_rate, audio.n_fft, audio.n_mels, audio.segment_frames]
    for field in dataclasses.fields(generator):
        value = getattr(generator, field.name)
        if field.name == "has_pitch":
            counts.append(1 if type(value) is bool else None)
        elif field.name == "resblock_dilations":
            counts += [dilation for dilations in value for dilation in dilations]
        else:
            counts += value if type(value) is tuple else [value]
    counts += [size for scale in audio.mel_scales for size in scale]
    if not all(type(count) is int and 0 < count <= _MAX_SIZE for count in counts):
        raise ValueError(_NOT_A_SIZE)
    edges = (audio.f_min, 0.0 if audio.f_max is None else audio.f_max)
    if not all(type(edge) in (int, float) and 0 <= edge <= _MAX_SIZE for edge in edges):
        raise ValueError(_NOT_A_SIZE)
    if isinstance(generator, SpectralGeneratorConfig):
        return
    layers = (
        generator.attention_layers,
        generator.posterior_layers,
        generator.flow_steps,
        generator.flow_layers,
    )
    lists = (
        generator.upsample_rates,
        generator.resblock_kernels,
        *generator.resblock_dilations,
    )
    if max(*layers, *map(len, lists)) > _MAX_LAYERS:
        raise ValueError("its config has more layers than any voice")


def _check_upsampling(generator: GeneratorConfig, audio: AudioConfig) -> None:
    rates = generator.upsample_rates
    kernels = generator.upsample_kernels
    impossible = f"its upsampling by {rates} with kernels of {kernels} is not possible"
    if not rates or len(rates) != len(kernels):
        raise ValueError(impossible)
    if generator.upsample_initial_channels >> len(rates) == 0:  # every stage halves them
        raise ValueError(impossible)
    _check_frame_rate(rates, audio.sample_rate)
    for rate, kernel in zip(rates, kernels, strict=True):
        # An odd surplus is cut as the tools do for odd rates; they cut no other one so.
        if kernel < rate or ((kernel - rate) % 2 and kernel != 2 * rate):
            raise ValueError(impossible)


def _check_frame_rate(rates: tuple[int, ...], sample_rate: int) -> None:
    """Raise ValueError unless upsampling by `rates` makes the sample rate.

    A few voices have frames that are not a hundredth of a second. But where the upsampling makes
    another common rate, the config is wrong: the voice would be too slow or too fast.
    """
    hop = math.prod(rates)
    made = hop * FRAMES_PER_SECOND
    if made == sample_rate:
        return
    is_other_voice = any(known.audio.sample_rate == made for known in list_known_sizes())
    if is_other_voice or not _MIN_FRAME_RATE <= sample_rate / hop <= _MAX_FRAME_RATE:
        raise ValueError(
            f"its upsampling by {rates} does not make {sample_rate} Hz of 100 frames a second"
        )
