"""Reads the records of a dataset that anybody may have made.

TensorFlow Datasets would import the module that a dataset's `features.json` names, and open the
files that its `dataset_info.json` names. Here both are checked against exact schemas, and the
shards are read without it: TensorFlow takes 5 s and 0.7 GB to import, and reads no single record by
its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from rvc_jax.data.tfrecord import Place, RecordFile
from rvc_jax.storage import places
from rvc_jax.storage.json_files import decode_json
from rvc_jax.storage.places import Location
from rvc_jax.storage.scratch import temporary_folder

_DESCRIPTION = "dataset_info.json"
_FEATURES = "features.json"
_MIN_RECORD_BYTES = 1000  # 0.1 s of speech; preparation drops slices of less than 0.4 s
_MAX_OPEN_FILES = 200
"""Shards that are held open. Systems allow a process 256 open files and more."""
_INTERLEAVED_SHARDS = 16
_INTERLEAVED_RECORDS = 16
"""TensorFlow Datasets reads that number of shards in turn, and that number of records of each."""

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


class Address(NamedTuple):
    """Where a record of a split is."""

    shard: int
    place: Place


class StoredSplit:
    """The records of a split as they are stored. Any thread may read any record."""

    def __init__(
        self, files: list[RecordFile], lengths: list[int], features: dict[str, _Feature]
    ):
        """Keep what is needed to read.

        Args:
            files: The shards.
            lengths: Number of records of each.
            features: What a record has.
        """
        self._files = files
        self._lengths = lengths
        self._features = features

    def scan(self) -> Iterator[tuple[Address, dict[str, Any]]]:
        """Yield all records with their addresses, in the order of TensorFlow Datasets.

        Raises:
            ValueError: A record is damaged, or a shard has another number of them.
            UserError: Another file has taken a shard's name.
        """
        shards = [file.scan() for file in self._files]
        for number in interleave(self._lengths):
            found = next(shards[number], None)
            if found is None:
                raise ValueError("a shard has fewer records")
            place, content = found
            yield Address(number, place), self._parse(content)
        if any(next(shard, None) is not None for shard in shards):
            raise ValueError("a shard has more records")

    def read(self, address: Address) -> dict[str, Any]:
        """Read one record.

        Raises:
            ValueError: It is damaged.
            UserError: Another file has taken the shard's name.
        """
        return self._parse(self._files[address.shard].read(address.place))

    def _parse(self, content: bytes) -> dict[str, Any]:
        from tensorflow_datasets.proto import tf_example_pb2  # does not import TensorFlow

        messages: Any = tf_example_pb2  # its classes are made when it is imported
        stored = messages.Example.FromString(content).features.feature
        return {name: _decode(stored[name], kind) for name, kind in self._features.items()}


def interleave(lengths: Sequence[int]) -> Iterator[int]:
    """Yield the shard of every record, in the order in which TensorFlow Datasets reads them.

    Runs depend on this order: it decides which windows a step sees.

    Args:
        lengths: Number of records of each shard.
    """
    left = list(lengths)
    begun = min(len(left), _INTERLEAVED_SHARDS)
    turns: list[int | None] = list(range(begun))
    waiting = iter(range(begun, len(left)))
    while any(shard is not None for shard in turns):
        for turn, shard in enumerate(turns):
            if shard is None:
                continue
            count = min(_INTERLEAVED_RECORDS, left[shard])
            left[shard] -= count
            yield from [shard] * count
            # A shard that ends with its turn is found to be empty at the next one.
            if count < _INTERLEAVED_RECORDS:
                turns[turn] = next(waiting, None)


@contextlib.contextmanager
def open_split(place: Location, split: str, expected: int) -> Iterator[StoredSplit]:
    """Open the records of a split.

    Shards of a remote dataset are copied to a temporary folder for as long as the context lasts.

    Args:
        place: The dataset's folder, local or remote.
        split: "train" or "holdout".
        expected: How many records the split has, more than 0.

    Raises:
        UserError: A description is not that of one of our datasets, or a shard is not a plain file.
        ValueError: The split has another number of records.
    """
    description = _read(place, _DESCRIPTION, _DescriptionFile)
    features = _read(place, _FEATURES, _FeaturesFile).features_dict.features
    stored = [item for item in description.splits if item.name == split]
    lengths = [int(length) for item in stored for length in item.shard_lengths]
    if len(stored) != 1 or sum(lengths) != expected:
        raise ValueError(f"{_DESCRIPTION} has another number of records")
    with contextlib.ExitStack() as stack:
        names = [
            f"{description.name}-{split}.tfrecord-{number:05d}-of-{len(lengths):05d}"
            for number in range(len(lengths))
        ]
        files = []
        for path in _bring_here(place, names, stack):
            files.append(RecordFile(path, keep_open=len(names) <= _MAX_OPEN_FILES))
            stack.callback(files[-1].close)
        size = sum(file.size for file in files)
        if size < expected * _MIN_RECORD_BYTES:
            raise ValueError(f"{size} bytes can't hold {expected} records")
        yield StoredSplit(files, lengths, features)


def _bring_here(
    place: Location, names: list[str], stack: contextlib.ExitStack
) -> Iterator[Path]:
    """Yield the path of every shard on this machine."""
    if not places.is_remote(place):
        yield from (Path(place) / name for name in names)
        return
    folder = Path(stack.enter_context(temporary_folder()))
    for name in names:
        places.get(places.join(place, name), folder / name)
        yield folder / name


def _read(place: Location, name: str, kind: type) -> Any:
    file = places.join(place, name)
    content = places.read(file)
    if content is None:
        raise FileNotFoundError(file)
    return decode_json(content, kind, file, "prepare the dataset again")


def _decode(stored: Any, feature: _Feature) -> Any:
    """Return the value of a feature: bytes of a text, else an array or a number.

    Raises ValueError if it is not what the description says.
    """
    kind = stored.WhichOneof("kind")
    values: Any = getattr(stored, kind).value if kind else ()
    if feature.text is not None:
        (text,) = values
        if not isinstance(text, bytes):
            raise ValueError("a feature that should be text and is not")
        return text
    if feature.tensor is None:
        raise ValueError("a feature that is neither text nor numbers")
    dtype = np.dtype(feature.tensor.dtype)
    if feature.tensor.encoding == "bytes":
        (content,) = values
        array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)
    else:
        array = np.array(values, dtype)
    # [()] makes a number of an array without dimensions.
    return array.reshape([int(size) for size in feature.tensor.shape.dimensions])[()]
