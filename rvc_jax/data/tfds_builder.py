"""The dataset as a builder of TensorFlow Datasets.

Imports TensorFlow, which takes seconds: import this module where it is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rvc_jax.config import PRESETS, PrepareConfig
from rvc_jax.data.cache import Cache
from rvc_jax.data.dataset import FORMAT, VERSION, DatasetInfo
from rvc_jax.data.extraction import analyze
from rvc_jax.data.records import Record, Records
from rvc_jax.data.sources import find_bundled_sample, find_sources
from rvc_jax.data.split import check_settings, split_slices
from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.errors import UserError
from rvc_jax.features.content import load_content_encoder
from rvc_jax.reporter import SILENT, Reporter

tfds = import_tfds()

from rvc_jax.data.tfds_writer import ShardWriter, stable_writers  # noqa: E402


@dataclasses.dataclass(eq=False)
class VoiceConfig(tfds.core.BuilderConfig):
    """Settings of one build, named after the preset."""

    prepare: PrepareConfig | None = None
    """Settings of the preparation; None: the preset's defaults."""
    records: Records | None = None
    """Records to write; None: those of the recordings in `--manual_dir` or of the bundled
    sample."""
    reporter: Reporter = SILENT
    beam: bool = False
    """Make the records in an Apache Beam pipeline; the DownloadConfig names its runner."""
    shards: str | None = None
    """Remote folder that the workers of that pipeline put shards into; None: the dataset's
    folder."""

    def __post_init__(self) -> None:
        if self.name not in PRESETS:
            raise UserError(f"unknown preset {self.name!r}; known are: {', '.join(PRESETS)}")
        self.prepare = (self.prepare or PrepareConfig(preset=self.name)).resolved()


# TFDS registers every builder class in `__init_subclass__`, which pyright does not see.
class VoiceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
    """Slices of speech with pitch and content, splits `train` and `holdout`."""

    name = "voice"
    VERSION = tfds.core.Version(VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str] = (
        "Put recordings into the folder, one sub-folder per speaker."
    )

    @property
    def voice_info(self) -> DatasetInfo:
        """Description of the dataset; available after `download_and_prepare`."""
        return self._voice_info

    def download_and_prepare(self, **options: Any) -> None:
        """Write the dataset; options: as for every builder of TensorFlow Datasets."""
        with stable_writers():
            super().download_and_prepare(**options)

    def _info(self) -> Any:
        config = self.builder_config.prepare
        channels = load_content_encoder(
            config.content_encoder, PRESETS[config.preset].version
        ).channels
        raw = {"encoding": tfds.features.Encoding.BYTES}
        features = {
            "wave": tfds.features.Tensor(shape=(None,), dtype=np.int16, **raw),
            "scale": tfds.features.Tensor(shape=(), dtype=np.float64, **raw),
            "content": tfds.features.Tensor(shape=(None, channels), dtype=np.float16, **raw),
            "f0": tfds.features.Tensor(shape=(None,), dtype=np.float32, **raw),
            "speaker": tfds.features.Scalar(np.int32),
            "source": tfds.features.Text(),
            "start": tfds.features.Tensor(shape=(), dtype=np.float64, **raw),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Slices of speech with their pitch (100 frames/s) and content features "
            "(50 frames/s).",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
        )

    def _example_writer(self) -> ShardWriter:
        return ShardWriter(self.info.file_format, self.builder_config.shards)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        config = self.builder_config
        self._records = config.records or _make_records(
            find_speech_folder(dl_manager), config.prepare
        )
        self._voice_info = self._records.info()
        self.info.metadata.update(format=FORMAT, version=VERSION, **self._voice_info.to_dict())
        # `scales` is measured here, before Beam's workers get copies of the records.
        # TFDS refuses a split without records.
        splits = [split for split in self._records.scales if self._records.plan.count(split)]
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split: str) -> Any:
        if not self.builder_config.beam:
            return self._records.split(split, self.builder_config.reporter)
        import apache_beam

        sources = range(len(self._records.plan.assigned))
        return (
            apache_beam.Create(sources)
            | apache_beam.Reshuffle()
            | apache_beam.FlatMap(_RecordsOf(self._records, split))
        )


@dataclasses.dataclass(frozen=True)
class _RecordsOf:
    """Function from the number of a source to its records; Beam can pickle it."""

    records: Records
    split: str

    def __call__(self, number: int) -> Iterator[tuple[str, Record]]:
        return self.records.of_source(number, self.split)


def _make_records(folder: Path, config: PrepareConfig) -> Records:
    check_settings(config)
    sources = find_sources(folder, config.speakers)
    cache = Cache()
    return Records(
        split_slices(sources, config, list(analyze(sources.cuts, config, cache))), cache
    )


def find_speech_folder(dl_manager: Any) -> Path:
    """Return the folder of `--manual_dir`, or the bundled sample if none was named."""
    default = dl_manager.download_dir / "manual"
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError as error:
        if str(default) in str(error):
            return find_bundled_sample("voice")
        raise UserError(f"no recordings: {str(error).splitlines()[0]}") from error
