"""Writers for TensorFlow Datasets that place and serialize records reproducibly.

The shard of a record follows from the hash of its key and the number of shards alone, both here
and on Beam's workers: one more record moves no other one. TFDS's own writers place records by
their rank among all records, and by the largest hash.

Imports TensorFlow, as `data.tfds_builder` does.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.storage import places
from rvc_jax.storage.scratch import temporary_folder

import_tfds()

from tensorflow_datasets.core import (  # noqa: E402
    example_serializer,
    file_adapters,
    hashing,
    writer,
)

_HASH_BITS = 128


@contextlib.contextmanager
def stable_writers() -> Iterator[None]:
    """Make TFDS write with the classes of this module inside the context, in the whole process.

    TFDS offers no argument for them: it looks them up in its modules whenever it writes a split.
    """
    originals = (writer.Writer, writer.BeamWriter, example_serializer.ExampleSerializer)
    writer.Writer = StableWriter
    writer.BeamWriter = StableBeamWriter
    example_serializer.ExampleSerializer = ReproducibleSerializer
    try:
        yield
    finally:
        writer.Writer, writer.BeamWriter, example_serializer.ExampleSerializer = originals


def shard_index(key_hash: int, shards: int) -> int:
    """Return the shard of a record: of twice as many shards, 2n and 2n + 1 hold those of shard
    n."""
    return key_hash * shards >> _HASH_BITS


class ReproducibleSerializer(example_serializer.ExampleSerializer):
    """Writes the features of a record in a fixed order.

    By default the same record gives different bytes in every process.
    """

    def serialize_example(self, example: Any) -> bytes:
        """Serialize one record."""
        return self.get_tf_example(example).SerializeToString(deterministic=True)


class StableWriter(writer.Writer):
    """Writes a split in this process."""

    def __init__(self, *args: Any, hash_salt: str, **options: Any) -> None:
        """hash_salt: seed of the keys' hashes; the rest as for TFDS's writer."""
        super().__init__(*args, hash_salt=hash_salt, **options)
        self._hasher = hashing.Hasher(hash_salt)
        self._hashes: list[int] = []

    def write(self, key: Any, example: dict) -> None:
        """Add one record."""
        super().write(key, example)
        self._hashes.append(self._hasher.hash_key(key))

    def finalize(self) -> tuple[list[int], int]:
        """Write the shards; returns the number of records of each, never 0, and all their bytes."""
        size = self._shuffler.size
        shards = self._shard_config.get_number_shards(
            size, len(self._hashes), uses_precise_sharding=False
        )
        counts = collections.Counter(shard_index(key_hash, shards) for key_hash in self._hashes)
        lengths = [counts[shard] for shard in sorted(counts)]
        records = iter(self._shuffler)  # ordered by hash
        for index, length in enumerate(lengths):
            path = self._filename_template.sharded_filepath(
                shard_index=index, num_shards=len(lengths)
            )
            self._example_writer.write(path, itertools.islice(records, length))
        next(records, None)  # at its end the shuffler removes its temporary files
        return lengths, size


class ShardWriter(writer.ExampleWriter):
    """Writes the records of a shard.

    It also carries the remote folder that Beam's workers put finished shards into.
    """

    def __init__(self, file_format: file_adapters.FileFormat, place: str | None = None) -> None:
        """place: the remote folder; None: the dataset's own folder."""
        super().__init__(file_format)
        self.place = place


class StableBeamWriter(writer.BeamWriter):
    """Writes a split on the workers of a Beam pipeline."""

    def _assign_shard(
        self, key_example: tuple[int, bytes], num_shards: int, largest_key: Sequence[int]
    ) -> tuple[int, tuple[int, bytes]]:
        return shard_index(key_example[0], num_shards), key_example

    def _write_final_shard(
        self, shard: tuple[int, Iterable], non_empty_shard_ids: Sequence[int]
    ) -> Any:
        with self._local() as local:
            return super(StableBeamWriter, local)._write_final_shard(shard, non_empty_shard_ids)

    def _store_split_info(self, shard_infos: Sequence[Any]) -> None:
        with self._local() as local:
            super(StableBeamWriter, local)._store_split_info(shard_infos)

    def finalize(self) -> tuple[list[int], int]:
        """Collect what the workers have written."""
        if self._place and self._split_info is None:
            info = places.join(self._place, Path(self._split_info_path).name)
            content = places.read(info)
            if content is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), info)
            self._split_info = json.loads(content)
            places.discard(info)
        return super().finalize()

    @property
    def _place(self) -> str | None:
        return getattr(self._example_writer, "place", None)

    @contextlib.contextmanager
    def _local(self) -> Iterator[StableBeamWriter]:
        """Yield a writer to a temporary folder, and move what it leaves there to the remote place.

        TFDS by itself can't write to s3://.
        """
        if not self._place:
            yield self
            return
        with temporary_folder() as folder:
            template = self._filename_template.replace(data_dir=folder)
            state: dict[str, Any] = self._original_state | {"filename_template": template}
            yield StableBeamWriter(**state)
            for path in Path(folder).iterdir():
                places.put(path, places.join(self._place, path.name))
