"""Reads the records of a dataset that anybody may have made.

TensorFlow Datasets imports the module that a dataset's `features.json` names, and opens the files
that its `dataset_info.json` names. Here it sees neither of the two: both are checked against exact
schemas and written anew, into a temporary folder with links to the shards.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.storage import places
from rvc_jax.storage.json_files import decode_json
from rvc_jax.storage.places import Location
from rvc_jax.storage.plain_files import check_plain
from rvc_jax.storage.scratch import temporary_folder

_DESCRIPTION = "dataset_info.json"
_FEATURES = "features.json"
_MIN_RECORD_BYTES = 1000  # 0.1 s of speech; preparation drops slices of less than 0.4 s

_Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,64}$")]
_Count = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,12}$")]
_Dimension = Annotated[str, msgspec.Meta(pattern="^-?[0-9]{1,6}$")]


class _Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    """Other fields than those of a schema are left out."""


class _Shape(_Struct):
    dimensions: Annotated[list[_Dimension], msgspec.Meta(max_length=3)] = []


class _Tensor(_Struct):
    dtype: Literal["int16", "int32", "float16", "float32", "float64"]
    shape: _Shape
    encoding: Literal["none", "bytes"] = "none"


class _Text(_Struct):
    pass


class _Feature(_Struct):
    python_class_name: Literal[
        "tensorflow_datasets.core.features.scalar.Scalar",
        "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "tensorflow_datasets.core.features.text_feature.Text",
    ]
    tensor: _Tensor | None = None
    text: _Text | None = None


class _FeaturesDict(_Struct):
    features: Annotated[dict[_Name, _Feature], msgspec.Meta(max_length=16)]


class _FeaturesFile(_Struct):
    features_dict: _FeaturesDict
    python_class_name: Literal["tensorflow_datasets.core.features.features_dict.FeaturesDict"]


class _Split(_Struct):
    name: Literal["train", "holdout"]
    shard_lengths: Annotated[list[_Count], msgspec.Meta(min_length=1, max_length=100_000)]
    num_bytes: _Count = "0"
    filepath_template: Literal["{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",] = (
        "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )


class _DescriptionFile(_Struct):
    name: _Name
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]\.[0-9]\.[0-9]$")]
    splits: Annotated[list[_Split], msgspec.Meta(max_length=2)]
    file_format: Literal["tfrecord"] = "tfrecord"


def read_stored_records(place: Location, split: str, expected: int) -> Iterator[dict[str, Any]]:
    """Yield the records of a split as they are stored.

    Args:
        place: The dataset's folder, local or remote.
        split: "train" or "holdout".
        expected: How many records the split has, more than 0.

    Raises:
        UserError: A description is not that of one of our datasets, or a shard is not a plain file.
        ValueError: The split has another number of records.
        Exception: What TensorFlow raises for damaged records.
    """
    description = _read(place, _DESCRIPTION, _DescriptionFile)
    features = _read(place, _FEATURES, _FeaturesFile)
    stored = [item for item in description.splits if item.name == split]
    if sum(int(length) for item in stored for length in item.shard_lengths) != expected:
        raise ValueError(f"{_DESCRIPTION} has another number of records")
    description.splits = stored
    tfds = import_tfds()
    with _trusted_folder(place, description, features) as folder:
        size = sum(file.stat().st_size for file in folder.glob("*.tfrecord-*"))
        if size < expected * _MIN_RECORD_BYTES:
            raise ValueError(f"{size} bytes can't hold {expected} records")
        builder = tfds.builder_from_directory(str(folder))
        reading = tfds.ReadConfig(try_autocache=False)  # every record is read once
        records = builder.as_dataset(split=split, shuffle_files=False, read_config=reading)
        yield from tfds.as_numpy(records)


def _read(place: Location, name: str, kind: type) -> Any:
    file = places.join(place, name)
    content = places.read(file)
    if content is None:
        raise FileNotFoundError(file)
    return decode_json(content, kind, file, "prepare the dataset again")


@contextlib.contextmanager
def _trusted_folder(
    place: Location, description: _DescriptionFile, features: _FeaturesFile
) -> Iterator[Path]:
    """Make a folder with descriptions that were checked, and the shards of their only split."""
    with temporary_folder() as name:
        folder = Path(name)
        for file, value in ((_DESCRIPTION, description), (_FEATURES, features)):
            (folder / file).write_text(json.dumps(msgspec.to_builtins(value)))
        (split,) = description.splits
        shards = len(split.shard_lengths)
        for number in range(shards):
            shard = f"{description.name}-{split.name}.tfrecord-{number:05d}-of-{shards:05d}"
            source = places.join(place, shard)
            if places.is_remote(source):
                places.get(source, folder / shard)
            else:
                check_plain(str(source))
                (folder / shard).symlink_to(Path(source).resolve())
        yield folder
