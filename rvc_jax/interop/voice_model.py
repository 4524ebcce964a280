"""A voice as model files hold it: sizes, weights under the public names, and what else is told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rvc_jax.config import PRESETS, AudioConfig, GeneratorConfig
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import synthesizer
from rvc_jax.runs import RunFolder

Version = Literal["v1", "v2"]
PUBLIC_ENCODER = "contentvec"
"""The content encoder that every tool of the RVC world has."""

CONTENT_CHANNELS: dict[str, int] = {"v1": 256, "v2": 768}
"""Width of its features, by version of the voice."""

_POSTERIOR = "enc_q."
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
    """A generator's state dict, float32, with weight norms under their old names (weight_g, weight_v), with or without
    the posterior encoder."""
    content_encoder: str = PUBLIC_ENCODER
    content_fingerprint: str | None = None
    """Of the encoder's weights; None if unknown."""
    speakers: tuple[str, ...] = ("",)
    """Their names, by number."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else its file tells, in plain values: name, epoch, step, author, ..."""

    @classmethod
    def from_run(cls, run: RunFolder, which: str = "best", step: int | None = None) -> VoiceModel:
        """The `best` or `latest` voice of a run, or that of a step. Raises UserError as `load_generator` does."""
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
        )

    @property
    def has_posterior(self) -> bool:
        """Whether it can be trained further."""
        return any(name.startswith(_POSTERIOR) for name in self.weights)

    @property
    def runs_elsewhere(self) -> bool:
        """Whether other tools of the RVC world can speak in it: they know its content encoder and its sizes."""
        classic = GeneratorConfig(self.generator.upsample_rates, self.generator.upsample_kernels)
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
        kept = {name: array for name, array in self.weights.items() if not name.startswith(_POSTERIOR)}
        return dataclasses.replace(self, weights=kept)

    def network(self) -> Network:
        """The synthesizer that the weights are of."""
        return synthesizer(self.generator, self.audio, posterior=self.has_posterior)


def config_list(model: VoiceModel) -> list[Any]:
    """The 18 sizes of a public voice file, in their order."""
    sizes = model.generator
    return [
        model.audio.spectrogram_bins, _SEGMENT, sizes.inter_channels, sizes.hidden_channels, sizes.filter_channels,
        sizes.attention_heads, sizes.attention_layers, sizes.attention_kernel, _DROPOUT, _RESBLOCK,
        list(sizes.resblock_kernels), [list(dilations) for dilations in sizes.resblock_dilations],
        list(sizes.upsample_rates), sizes.upsample_initial_channels, list(sizes.upsample_kernels), sizes.speakers,
        sizes.speaker_channels, model.audio.sample_rate,
    ]  # fmt: skip


def from_config_list(
    values: Sequence[Any], version: Version, has_pitch: bool, content_channels: int, speakers: int
) -> tuple[GeneratorConfig, AudioConfig]:
    """The sizes that a public voice file tells in its 18 values.

    content_channels, speakers: as its weights have them, which decide.

    Raises:
      ValueError: if they are not what such a file holds; the message tells why.
    """
    if len(values) != 18:
        raise ValueError(f"its config has {len(values)} entries, not 18")
    bins, _, inter, hidden, filters, heads, layers, kernel, _, block, kernels, dilations = values[:12]
    rates, initial, up_kernels, _, speaker_channels, sample_rate = values[12:]
    counts = (bins, inter, hidden, filters, heads, layers, kernel, *kernels, *rates, initial, *up_kernels)
    if not all(type(count) is int and 0 < count <= 1 << 16 for count in (*counts, speaker_channels)):
        raise ValueError("its config holds something that is no size")
    if str(block) != _RESBLOCK:
        raise ValueError(f"its residual blocks are of kind {block!r}; only kind 1 is known")
    generator = GeneratorConfig(
        tuple(rates), tuple(up_kernels), content_channels, inter, hidden, filters, heads, layers, kernel,
        speaker_channels=speaker_channels, speakers=speakers, upsample_initial_channels=initial,
        resblock_kernels=tuple(kernels), resblock_dilations=tuple(map(tuple, dilations)), has_pitch=has_pitch,
    )  # fmt: skip
    return generator, _audio(int(sample_rate), 2 * (bins - 1), version)


def _audio(sample_rate: int, n_fft: int, version: Version) -> AudioConfig:
    """The preset's of that rate, with the transform that the file tells."""
    alike = [preset.audio for preset in PRESETS.values() if preset.audio.sample_rate == sample_rate]
    same_version = [preset.audio for preset in PRESETS.values() if preset.version == version and preset.audio in alike]
    if not alike:
        raise ValueError(f"its sample rate is {sample_rate} Hz; 32000, 40000 and 48000 are known")
    return dataclasses.replace((same_version or alike)[0], n_fft=n_fft)
