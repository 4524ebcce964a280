"""A voice as conversion needs it, wherever it comes from."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PRESETS, AudioConfig, PrepareConfig, from_dict
from rvc_jax.models.parameters import Network
from rvc_jax.models.precision import compute_dtype
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.voices.formats.native import is_voice
from rvc_jax.voices.formats.pth_reader import VOICE_EXTENSIONS
from rvc_jax.voices.index import NONE, read_index
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import find_voices, open_voice


@dataclasses.dataclass(frozen=True)
class Voice:
    """The voice model with its parameters, and how its training speech was treated."""

    network: Network
    parameters: dict[str, Any]
    audio: AudioConfig
    latent_channels: int
    content_encoder: str
    content_fingerprint: str | None = None
    """Of the encoder that the voice was trained with; None if unknown."""
    version: Literal["v1", "v2"] = "v2"
    prepare: PrepareConfig = PrepareConfig()
    """Of the training speech; the recording is filtered and levelled like it."""
    speakers: tuple[str, ...] = ("",)
    """Their names, by number."""
    median_f0: tuple[float, ...] = (0.0,)
    """Of every speaker's training speech in Hz; 0 if unknown."""
    index: np.ndarray | None = None
    """Content features of the training speech [rows, channels], for retrieval."""
    dtype: Any = jnp.float32
    """Arithmetic of the network."""
    has_pitch: bool = True
    """Whether it sings a melody; without, the recording's pitch is not heard in the result."""

    @classmethod
    def load(
        cls, place: Location, which: str = "best", index: str | Path | None = None
    ) -> Voice:
        """The voice of whatever holds one.

        Args:
          place: a run's folder or URL, a folder that `rvc-jax import` made, a `.pth` of any RVC
            tool (also `G_*.pth`), a `.safetensors` of ours, a `.zip` with a `.pth`, or a folder
            with one of these files.
          which: `best` or `latest`, of a run.
          index: a faiss `.index` or an `.npy` [rows, channels] in the place of the one that belongs
            to the voice, or lies beside its file; "none" takes none.

        Raises:
          UserError: there is no voice, it is damaged, or the index is another voice's.
        """
        if is_remote(place) or not _is_imported(Path(place)):
            voice = cls.from_run(
                RunFolder.open(fetch_run(place, "index.npy", VOICE_FOLDERS[which])), which
            )
            return voice if index is None else voice.with_index(index)
        opened = open_voice(Path(place), index)
        return cls.from_model(opened.model, opened.index)

    @classmethod
    def from_model(cls, model: VoiceModel, index: np.ndarray | None = None) -> Voice:
        """A voice as a file holds it. index: content features of its training speech [rows,
        channels].

        Its recordings are treated as RVC treats speech for training, since no file tells how its
        own was.
        """
        model = model.without_posterior()
        network = model.network()
        # is in the package
        preset = _preset_like(model)
        unheard = None if model.generator.has_pitch else "swift"
        return cls(
            network,
            network.from_public(model.weights),
            model.audio,
            model.generator.inter_channels,
            model.content_encoder,
            model.content_fingerprint,
            model.version,
            PrepareConfig(preset, unheard, model.content_encoder).resolved(),
            model.speakers,
            (0.0,) * len(model.speakers),
            index,
            compute_dtype("auto"),
            model.generator.has_pitch,
        )

    def with_index(self, index: str | Path) -> Voice:
        """The same voice with another index: a faiss `.index`, an `.npy`, or "none". Raises
        UserError as `load`."""
        if str(index) == NONE:
            return dataclasses.replace(self, index=None)
        channels = self.network.shapes["enc_p.emb_phone.weight"][0]
        return dataclasses.replace(self, index=read_index(index, channels))

    @classmethod
    def from_run(cls, run: RunFolder, which: str = "best") -> Voice:
        """The `best` or `latest` voice of a run. Raises UserError as `RunFolder.load_generator`
        does."""
        network, parameters = run.load_generator(which)
        return cls(
            network,
            parameters,
            run.preset.audio,
            run.preset.generator.inter_channels,
            run.dataset.content_encoder,
            run.dataset.content_fingerprint,
            run.preset.version,
            from_dict(PrepareConfig, run.dataset.config),
            run.dataset.speakers,
            run.dataset.speaker_median_f0,
            run.index(),
            compute_dtype(run.preset.train.precision),
            run.preset.generator.has_pitch,
        )


def _is_imported(place: Path) -> bool:
    """Whether it is a file, or a folder with a file, of a voice; anything else is taken for a
    run."""
    if os.path.isdir(place):  # unlike Path.is_dir, also for names that are too long
        return is_voice(place) or (
            not (place / "config.json").exists() and bool(find_voices(place))
        )
    return os.path.isfile(place) or place.suffix.lower() in VOICE_EXTENSIONS


def _preset_like(model: VoiceModel) -> str:
    """The preset of the voice's version and rate, or of its version."""
    alike = [preset for preset in PRESETS.values() if preset.version == model.version]
    same = [preset for preset in alike if preset.audio.sample_rate == model.audio.sample_rate]
    return (same or alike)[0].name
