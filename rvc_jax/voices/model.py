"""A voice as data: the sizes and weights of its networks, its retrieval index, facts about it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from rvc_jax.config import (
    AnyGeneratorConfig,
    AudioConfig,
    GeneratorConfig,
    PrepareConfig,
    from_dict,
)
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import infer_steps_per_epoch
from rvc_jax.runs.retrieval import read_or_make_index
from rvc_jax.voices.names import choose_name, name_of_run

Version = Literal["v1", "v2"]
PUBLIC_ENCODER = "contentvec"
"""The content encoder that every RVC tool has."""

CONTENT_CHANNELS: dict[str, int] = {"v1": 256, "v2": 768}
"""Channels of its features, by version of the voice."""

_POSTERIOR = "enc_q."
_UNSTATED_SIZES = (
    "content_channels",
    "attention_window",
    "flow_steps",
    "flow_layers",
    "flow_kernel",
)
"""Sizes that no public file states: all tools take their own."""


@dataclasses.dataclass(frozen=True)
class VoiceModel:
    """A voice, from any place: made by `open_voice`, used by `infer.voice.Voice` to convert."""

    generator: AnyGeneratorConfig
    audio: AudioConfig
    version: Version
    weights: dict[str, np.ndarray]
    """State dict of a generator under the public names, float32, with weight norms in their old
    form (weight_g, weight_v), with or without the posterior encoder."""
    content_encoder: str = PUBLIC_ENCODER
    content_fingerprint: str | None = None
    """SHA-256 of the encoder's weights; None if unknown."""
    content_layer: int | None = None
    """Layer of the encoder, from 1 on; None for the version's own: the last of v2, 9 of v1."""
    speakers: tuple[str, ...] = ("",)
    """Names by speaker number; empty where a file has none."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else its file says, in plain values: kind, name, epoch, step, author, ..."""
    index: np.ndarray | None = None
    """Content features of its training speech [rows, channels], for retrieval."""
    index_name: str | None = None
    """Name of the file that the index comes from."""
    run: RunFolder | None = None
    """The run that trained it, if it was opened from one."""
    prepare: PrepareConfig | None = None
    """How its training speech was prepared; None if unknown, as for a voice from a file."""
    median_f0: tuple[float, ...] = ()
    """Median pitch of each speaker's training speech in Hz, 0 if unknown; empty if all are."""
    notes: tuple[str, ...] = ()
    """What was chosen when it was opened, and what is missing, in sentences."""
    precision: str = "auto"
    """Arithmetic to compute in, see `models.precision.compute_dtype`."""

    @classmethod
    def from_run(
        cls,
        run: RunFolder,
        which: str = "best",
        step: int | None = None,
        name: str = "",
    ) -> VoiceModel:
        """Take a voice out of a run.

        Args:
          which: `best` by the hold-out, or `latest`.
          step: The checkpoint of this step instead.
          name: Name of the voice; that of the run's folder if empty.

        Raises:
          UserError: The run has no such checkpoint, or it is damaged.
        """
        network, parameters = run.load_generator(which, step)
        found_step = int(run.voice_folder(which, step).name)
        dataset = run.dataset
        index, why_none = read_or_make_index(run)
        facts = {
            "name": name or name_of_run(run.path),
            "epoch": count_epochs(run, found_step),
            "step": found_step,
            "dataset_length": format_clock(dataset.speech_minutes),
        }
        return cls(
            generator=run.preset.generator,
            audio=run.preset.audio,
            version=run.preset.version,
            weights=network.to_public(parameters),
            content_encoder=dataset.content_encoder,
            content_fingerprint=dataset.content_fingerprint,
            speakers=dataset.speakers,
            facts=facts,
            index=index,
            notes=(why_none,) if why_none else (),
            run=run,
            prepare=_read_preparation(run),
            median_f0=dataset.speaker_median_f0,
            precision=run.preset.train.precision,
        )

    @property
    def hop(self) -> int:
        """Samples that it renders per frame; in nearly all voices a hundredth of a second."""
        if not isinstance(self.generator, GeneratorConfig):
            return self.audio.hop
        return math.prod(self.generator.upsample_rates)

    @property
    def rvc_sizes(self) -> GeneratorConfig:
        """Sizes of the networks of an RVC voice.

        Raises ValueError for a voice of the small preset, which has other networks.
        """
        if not isinstance(self.generator, GeneratorConfig):
            raise ValueError("its networks are those of the preset small, which RVC lacks")
        return self.generator

    @property
    def has_posterior(self) -> bool:
        """Whether it has the posterior encoder, without which it can't be trained further.

        A voice of the small preset needs none.
        """
        if not isinstance(self.generator, GeneratorConfig):
            return True
        return any(name.startswith(_POSTERIOR) for name in self.weights)

    @property
    def is_rvc_compatible(self) -> bool:
        """Whether other RVC tools can use it: they know its content encoder and its sizes."""
        if not isinstance(self.generator, GeneratorConfig):
            return False
        rvc_sizes = GeneratorConfig(
            self.generator.upsample_rates,
            self.generator.upsample_kernels,
            content_channels=CONTENT_CHANNELS[self.version],
        )
        # The config list of a public file states all other sizes.
        has_their_sizes = all(
            getattr(self.generator, name) == getattr(rvc_sizes, name)
            for name in _UNSTATED_SIZES
        )
        is_theirs = self.content_layer is None and not self.content_encoder.startswith(
            "whisper"
        )
        return has_their_sizes and is_theirs

    def without_posterior(self) -> VoiceModel:
        """The voice without its posterior encoder, which conversion does not use."""
        weights = {
            name: array
            for name, array in self.weights.items()
            if not name.startswith(_POSTERIOR)
        }
        return dataclasses.replace(self, weights=weights)

    def with_facts(self, **facts: Any) -> VoiceModel:
        """The voice with other or more facts."""
        return dataclasses.replace(self, facts={**self.facts, **facts})

    def with_file_name(self, otherwise: str) -> VoiceModel:
        """The voice with a name that files can have: its own in usable letters, or another one."""
        own = str(self.facts.get("name") or "")
        return self.with_facts(name=choose_name(own, otherwise))

    def summary(self) -> dict[str, Any]:
        """Describe the voice in plain values."""
        named = [speaker for speaker in self.speakers if speaker]
        layer = {} if self.content_layer is None else {"content_layer": self.content_layer}
        return {
            "kind": self.facts.get("kind"),
            "name": self.facts.get("name"),
            "version": self.version,
            "sample_rate": self.audio.sample_rate,
            "pitch": self.generator.has_pitch,
            "speakers": named or len(self.speakers),
            "content_encoder": self.content_encoder,
            **layer,
            "epoch": self.facts.get("epoch"),
            "step": self.facts.get("step"),
            "parameters": sum(array.size for array in self.weights.values()),
            "can_be_trained_on": self.has_posterior,
        }

    def network(self) -> Network:
        """Build the synthesizer that the weights belong to. It holds no arrays."""
        return _build_network(self.generator, self.audio, self.has_posterior)


@functools.lru_cache(maxsize=4)
def _build_network(
    generator: AnyGeneratorConfig, audio: AudioConfig, posterior: bool
) -> Network:
    # A voice is read, checked and used: three times the same network.
    return build_synthesizer(generator, audio, posterior=posterior)


def _read_preparation(run: RunFolder) -> PrepareConfig:
    try:
        return from_dict(PrepareConfig, run.dataset.config)
    except TypeError as error:
        raise UserError(
            f"{run.path} was prepared by another version of rvc-jax: {sanitize(error)}"
        ) from None


def count_epochs(run: RunFolder, step: int) -> int:
    """Count the epochs that a run has finished by a step, rounded; 0 if its history has none."""
    per_epoch = infer_steps_per_epoch(run.history(whole=True))
    return round(step / per_epoch) if per_epoch else 0


def format_clock(minutes: float) -> str:
    """Format minutes as HH:MM:SS."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def normalize_weights(model: VoiceModel) -> VoiceModel:
    """Check that the weights are complete, finite and of the right shapes; convert them to float32.

    Raises:
      ValueError: They are not; the message begins with "it" or the name of a weight.
    """
    shapes = model.network().public_shapes
    weights = model.weights
    missing = [name for name in shapes if name not in weights]
    if missing:
        raise ValueError(f"it is not whole: {_describe_names(missing)} missing")
    unknown = [name for name in weights if name not in shapes]
    if unknown:
        raise ValueError(
            f"it has parts that RVC's network lacks: {_describe_names(unknown)} unknown"
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(
                f"its sizes do not fit together: {name} has the shape {weights[name].shape}, "
                f"not {shape}"
            )
    for name, array in weights.items():
        # V is the kind of bfloat16.
        if array.dtype.kind not in "fV" or array.dtype.itemsize > 8:
            raise ValueError(f"{name} is of {array.dtype}: weights are floating-point numbers")
    converted = {name: np.asarray(weights[name], np.float32) for name in shapes}
    broken = sum(int((~np.isfinite(array)).sum()) for array in converted.values())
    if broken:
        raise ValueError(
            f"it is broken: {broken} of its numbers are not finite; take an earlier checkpoint"
        )
    return dataclasses.replace(model, weights=converted)


def _describe_names(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return sanitize(names[0], 80) + more
