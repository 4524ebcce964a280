"""Shards of a dataset: which one a record lies in, and writing them. Imports TensorFlow, as
`data.builder` does.

A record's shard is told by the hash of its key and the number of shards alone, whoever writes it: a
further record moves no other one. Left to themselves, TFDS's two writers place records by their
rank among all records, and by the largest hash there is.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.storage import places

import_tfds()

from tensorflow_datasets.core import file_adapters, hashing, writer  # noqa: E402

_HASH_BITS = 128


def shard_index(key_hash: int, shards: int) -> int:
    """The shard of a record; of twice as many shards, 2n and 2n + 1 hold what was in shard n."""
    return key_hash * shards >> _HASH_BITS


class StableWriter(writer.Writer):
    """TFDS's writer in this process."""

    def __init__(self, *args, hash_salt: str, **options) -> None:
        super().__init__(*args, hash_salt=hash_salt, **options)
        self._hasher = hashing.Hasher(hash_salt)
        self._hashes: list[int] = []

    def write(self, key: str, example: dict) -> None:
        super().write(key, example)
        self._hashes.append(self._hasher.hash_key(key))

    def finalize(self) -> tuple[list[int], int]:
        """Returns the numbers of records of all shards, none of them empty, and the bytes of all
        records."""
        size = self._shuffler.size
        shards = self._shard_config.get_number_shards(
            size, len(self._hashes), uses_precise_sharding=False
        )
        counts = collections.Counter(shard_index(key_hash, shards) for key_hash in self._hashes)
        lengths = [counts[shard] for shard in sorted(counts)]
        ordered = iter(self._shuffler)  # by hash
        for index, length in enumerate(lengths):
            path = self._filename_template.sharded_filepath(
                shard_index=index, num_shards=len(lengths)
            )
            self._example_writer.write(path, itertools.islice(ordered, length))
        next(ordered, None)  # it clears up at its end
        return lengths, size


class ShardWriter(writer.ExampleWriter):
    """Writes the records of a shard, and knows the remote folder that Beam's workers put finished
    shards into."""

    def __init__(self, file_format: file_adapters.FileFormat, place: str | None = None) -> None:
        """place: None is the dataset's own folder."""
        super().__init__(file_format)
        self.place = place


class StableBeamWriter(writer.BeamWriter):
    """TFDS's writer on the workers of a Beam pipeline."""

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
        if self._place and self._split_info is None:
            info = places.join(self._place, Path(self._split_info_path).name)
            self._split_info = json.loads(places.read(info))
            places.discard(info)
        return super().finalize()

    @property
    def _place(self) -> str | None:
        return getattr(self._example_writer, "place", None)

    @contextlib.contextmanager
    def _local(self) -> Iterator[StableBeamWriter]:
        """A writer to a folder of this machine; what it leaves there goes to the place. TFDS alone
        knows no s3://."""
        if not self._place:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
            template = self._filename_template.replace(data_dir=folder)
            yield StableBeamWriter(**self._original_state | {"filename_template": template})
            for path in Path(folder).iterdir():
                places.put(path, places.join(self._place, path.name))


writer.Writer = StableWriter
writer.BeamWriter = StableBeamWriter
