"""A voice as model files hold it: sizes, weights under the public names, and what else is told of
it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rvc_jax.config import (
    CONTENT_ENCODERS,
    PRESETS,
    AudioConfig,
    GeneratorConfig,
    PrepareConfig,
    from_dict,
)
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.runs.folder import RunFolder

Version = Literal["v1", "v2"]
PUBLIC_ENCODER = "contentvec"
"""The content encoder that every tool of the RVC world has."""

CONTENT_CHANNELS: dict[str, int] = {"v1": 256, "v2": 768}
"""Width of its features, by version of the voice."""

_WHISPER_CHANNELS = {"whisper-tiny": 384, "whisper-base": 512, "whisper-small": 768}
_POSTERIOR = "enc_q."
_MOST_LAYERS = 64
_SEGMENT = 32  # whatever the rate: no tool reads it
_DROPOUT = 0
_RESBLOCK = "1"


@dataclasses.dataclass(frozen=True)
class VoiceModel:
    """The networks of a voice, outside of any run."""

    generator: GeneratorConfig
    audio: AudioConfig
    version: Version
    weights: dict[str, np.ndarray]
    """A generator's state dict, float32, with weight norms under their old names (weight_g,
    weight_v), with or without the posterior encoder."""
    content_encoder: str = PUBLIC_ENCODER
    content_fingerprint: str | None = None
    """Of the encoder's weights; None if unknown."""
    speakers: tuple[str, ...] = ("",)
    """Their names, by number."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else its file states, in plain values: name, epoch, step, author, ..."""
    index: np.ndarray | None = None
    """Content features of the training speech [rows, channels], for retrieval; None if there are
    none."""
    prepare: PrepareConfig | None = None
    """How the training speech was prepared; None if unknown, which it is for a voice from a file."""
    median_f0: tuple[float, ...] = ()
    """Median pitch of each speaker's training speech in Hz, 0 if unknown; empty if none is known."""
    precision: str = "auto"
    """Arithmetic to compute in; see `models.precision.compute_dtype`."""

    @classmethod
    def from_run(
        cls, run: RunFolder, which: str = "best", step: int | None = None
    ) -> VoiceModel:
        """The `best` or `latest` voice of a run, or that of a step. Raises UserError as
        `load_generator` does."""
        network, parameters = run.load_generator(which, step)
        dataset = run.dataset
        return cls(
            run.preset.generator,
            run.preset.audio,
            run.preset.version,
            network.to_public(parameters),
            dataset.content_encoder,
            dataset.content_fingerprint,
            dataset.speakers,
            index=run.index(),
            prepare=from_dict(PrepareConfig, dataset.config),
            median_f0=dataset.speaker_median_f0,
            precision=run.preset.train.precision,
        )

    @property
    def has_posterior(self) -> bool:
        """Whether it can be trained further."""
        return any(name.startswith(_POSTERIOR) for name in self.weights)

    @property
    def is_rvc_compatible(self) -> bool:
        """Whether other tools of the RVC world can speak in it: they know its content encoder and
        its sizes."""
        classic = GeneratorConfig(
            self.generator.upsample_rates, self.generator.upsample_kernels
        )
        content = CONTENT_CHANNELS[self.version]
        sizes = dataclasses.replace(
            classic,
            content_channels=content,
            speakers=self.generator.speakers,
            has_pitch=self.generator.has_pitch,
        )
        return self.generator == sizes and not self.content_encoder.startswith("whisper")

    def without_posterior(self) -> VoiceModel:
        """What conversion needs of it."""
        kept = {
            name: array
            for name, array in self.weights.items()
            if not name.startswith(_POSTERIOR)
        }
        return dataclasses.replace(self, weights=kept)

    def summary(self) -> dict[str, Any]:
        """What the voice is, in plain values."""
        named = [speaker for speaker in self.speakers if speaker]
        return {
            "kind": self.facts.get("kind"),
            "name": self.facts.get("name"),
            "version": self.version,
            "sample_rate": self.audio.sample_rate,
            "pitch": self.generator.has_pitch,
            "speakers": named or len(self.speakers),
            "content_encoder": self.content_encoder,
            "epoch": self.facts.get("epoch"),
            "step": self.facts.get("step"),
            "parameters": sum(array.size for array in self.weights.values()),
            "can_be_trained_on": self.has_posterior,
        }

    def network(self) -> Network:
        """The synthesizer that the weights are of."""
        return _network(self.generator, self.audio, self.has_posterior)


@functools.lru_cache(maxsize=4)
def _network(generator: GeneratorConfig, audio: AudioConfig, posterior: bool) -> Network:
    """Of a voice that is read, checked and used, built once: it has no arrays."""
    return build_synthesizer(generator, audio, posterior=posterior)


def to_config_list(model: VoiceModel) -> list[Any]:
    """The 18 sizes of a public voice file, in their order."""
    sizes = model.generator
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
    """The sizes that a public voice file tells in its 18 values.

    content_channels, speakers: as its weights have them, which decide.

    Raises:
      ValueError: if they are not what such a file holds; the message tells why.
    """
    if len(values) != 18:
        raise ValueError(f"its config has {len(values)} entries, not 18")
    bins, _, inter, hidden, filters, heads, layers, kernel, _, block, kernels, dilations = (
        values[:12]
    )
    rates, initial, up_kernels, _, speaker_channels, sample_rate = values[12:]
    if str(block) != _RESBLOCK:
        raise ValueError(f"its residual blocks are of kind {block!r}; only kind 1 is known")
    try:
        generator = GeneratorConfig(
            tuple(rates),
            tuple(up_kernels),
            content_channels,
            inter,
            hidden,
            filters,
            heads,
            layers,
            kernel,
            speaker_channels=speaker_channels,
            speakers=speakers,
            upsample_initial_channels=initial,
            resblock_kernels=tuple(kernels),
            resblock_dilations=tuple(map(tuple, dilations)),
            has_pitch=has_pitch,
        )
        audio = audio_config_for(int(sample_rate), version, 2 * (bins - 1))
    except TypeError:
        raise ValueError("its config holds something that is no size") from None
    check_sizes(generator, audio)
    return generator, audio


def check_sizes(generator: GeneratorConfig, audio: AudioConfig) -> None:
    """Raises ValueError, whose message tells why, if no voice can have these sizes; they may be
    anything at all."""
    try:
        _check_counts(generator, audio)
    except TypeError:
        raise ValueError("its config holds something that is no size") from None
    _check_upsampling(generator, audio)
    if generator.hidden_channels % generator.attention_heads or generator.inter_channels % 2:
        raise ValueError(
            "its channels cannot be shared out between its attention's heads, or its flow's halves"
        )
    if len(generator.resblock_kernels) != len(generator.resblock_dilations):
        raise ValueError("its residual blocks have not as many kernels as dilations")
    if not generator.resblock_kernels or any(
        kernel % 2 == 0 for kernel in generator.resblock_kernels
    ):
        raise ValueError(
            f"its residual blocks have kernels of {generator.resblock_kernels}, which are not all odd"
        )


def _check_counts(generator: GeneratorConfig, audio: AudioConfig) -> None:
    counts: list[Any] = [audio.sample_rate, audio.n_fft, audio.n_mels, audio.segment_frames]
    for field in dataclasses.fields(generator):
        value = getattr(generator, field.name)
        if field.name == "has_pitch":
            counts.append(1 if type(value) is bool else None)
        elif field.name == "resblock_dilations":
            counts += [dilation for dilations in value for dilation in dilations]
        else:
            counts += value if type(value) is tuple else [value]
    if not all(type(count) is int and 0 < count <= 1 << 20 for count in counts):
        raise ValueError("its config holds something that is no size")
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
    if max(*layers, *map(len, lists)) > _MOST_LAYERS:
        raise ValueError("its config has more layers than any voice")


def _check_upsampling(generator: GeneratorConfig, audio: AudioConfig) -> None:
    rates = generator.upsample_rates
    kernels = generator.upsample_kernels
    if (
        not rates
        or len(rates) != len(kernels)
        or generator.upsample_initial_channels >> len(rates) == 0
    ):
        raise ValueError(f"its upsampling by {rates} with kernels of {kernels} is not possible")
    if audio.sample_rate % 100 or math.prod(rates) != audio.hop:
        raise ValueError(
            f"its upsampling by {rates} does not make {audio.sample_rate} Hz of 100 frames a second"
        )
    if any(
        kernel < rate or (kernel - rate) % 2
        for rate, kernel in zip(rates, kernels, strict=True)
    ):
        raise ValueError(f"its upsampling by {rates} with kernels of {kernels} is not possible")
    if any(
        rest % 2 and rest > 1
        for rest in (math.prod(rates[stage + 1 :]) for stage in range(len(rates)))
    ):
        raise ValueError(
            f"its upsampling by {rates} has an odd rate behind the first, which is not supported"
        )


def content_width(encoder: str, version: Version) -> int | None:
    """Channels of a content encoder's features for voices of the version; None if only its weights
    tell."""
    if encoder in _WHISPER_CHANNELS or encoder in CONTENT_ENCODERS:
        return _WHISPER_CHANNELS.get(encoder, CONTENT_CHANNELS[version])
    return None


def audio_config_for(
    sample_rate: int, version: Version, n_fft: int | None = None
) -> AudioConfig:
    """The preset's of that rate and version, or the nearest to it; n_fft: the transform that the
    voice has."""
    alike = [preset for preset in PRESETS.values() if preset.audio.sample_rate == sample_rate]
    near = (
        [preset for preset in alike if preset.version == version] or alike or [PRESETS["40k"]]
    )
    audio = dataclasses.replace(near[0].audio, sample_rate=sample_rate)
    return audio if n_fft is None else dataclasses.replace(audio, n_fft=n_fft)
