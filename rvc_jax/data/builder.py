"""The dataset in the terms of TensorFlow Datasets. Imports TensorFlow: import this module where it is needed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rvc_jax.config import PRESETS, PrepareConfig
from rvc_jax.data.dataset import FORMAT, VERSION, DatasetInfo
from rvc_jax.data.plan import make_plan, no_speech
from rvc_jax.data.quiet_tfds import import_tfds
from rvc_jax.data.records import Record, Records
from rvc_jax.data.sources import bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.features.content import content_encoder

tfds = import_tfds()


@dataclasses.dataclass(eq=False)
class VoiceConfig(tfds.core.BuilderConfig):
    """Settings of one build, named after the preset."""

    prepare: PrepareConfig | None = None
    """None is the preset with every default."""
    records: Records | None = None
    """What to write; None makes it of the recordings in `--manual_dir`, or of the bundled sample."""

    def __post_init__(self) -> None:
        if self.name not in PRESETS:
            raise UserError(f"unknown preset {self.name!r}; known are: {', '.join(PRESETS)}")
        self.prepare = self.prepare or PrepareConfig(preset=self.name)


class VoiceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One speaker's slices with pitch and content, splits `train` and `holdout`."""

    name = "voice"
    VERSION = tfds.core.Version(VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str] = "Put recordings of one speaker into the folder."

    @property
    def voice_info(self) -> DatasetInfo:
        """What was written; after `download_and_prepare`."""
        return self._records.info()

    def _info(self) -> tfds.core.DatasetInfo:
        channels = content_encoder(self.builder_config.prepare.content_encoder).channels
        raw = {"encoding": tfds.features.Encoding.BYTES}
        features = {
            "wave": tfds.features.Tensor(shape=(None,), dtype=np.float32, **raw),
            "content": tfds.features.Tensor(shape=(None, channels), dtype=np.float16, **raw),
            "f0": tfds.features.Tensor(shape=(None,), dtype=np.float32, **raw),
            "speaker": tfds.features.Scalar(np.int32),
            "source": tfds.features.Text(),
            "start": tfds.features.Tensor(shape=(), dtype=np.float64, **raw),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Slices of speech with their pitch (100 frames/s) and content features (50 frames/s).",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Record]]]:
        config = self.builder_config
        self._records = config.records or Records(make_plan(_speech_folder(dl_manager), config.prepare))
        generators = {split: self._generate_examples(split) for split in ("train", "holdout")}
        first = {split: next(generator, None) for split, generator in generators.items()}
        if first["train"] is None:
            raise no_speech(self._records.plan, self._records.dropped)
        # TFDS refuses a split without records, so that split is left out.
        return {
            split: itertools.chain([first[split]], generators[split])
            for split in generators
            if first[split] is not None
        }

    def _generate_examples(self, split: str) -> Iterator[tuple[str, Record]]:
        yield from self._records.split(split)
        # TFDS writes the metadata after the last split.
        self.info.metadata.update(format=FORMAT, version=VERSION, **self._records.info().to_dict())


def _speech_folder(dl_manager: Any) -> Path:
    """The folder of `--manual_dir`; the bundled sample if none was named."""
    default = dl_manager.download_dir / "manual"
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError as error:
        if str(default) in str(error):
            return bundled_sample("voice")
        raise UserError(f"no recordings: {str(error).splitlines()[0]}") from error
