"""Windows on disk are those in memory, bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.data.dataset import count_bytes, load_dataset, load_holdout, open_dataset
from rvc_jax.data.stored_windows import StoredWindows
from rvc_jax.data.windows import FIELDS, Windows
from rvc_jax.errors import UserError


def test_windows_on_disk_equal_those_in_memory(sample_dataset: Path) -> None:
    expected = load_dataset(sample_dataset)
    rows = np.random.default_rng(0).integers(0, len(expected.train), (3, 4))
    with open_dataset(sample_dataset, memory_bytes=0) as data:
        assert isinstance(data.train, StoredWindows)
        assert (len(data.train), data.train.scale) == (
            len(expected.train),
            expected.train.scale,
        )
        assert data.identity == expected.identity
        np.testing.assert_array_equal(data.train.lengths, expected.train.lengths)
        np.testing.assert_array_equal(data.train.speaker, expected.train.speaker)
        taken = data.train.take(rows)
        assert set(taken) == set(FIELDS)
        for name, array in taken.items():
            whole = getattr(expected.train, name)
            np.testing.assert_array_equal(array, whole[rows])
            assert array.dtype == whole.dtype
        assert set(data.train.take(rows, ("content",))) == {"content"}


def test_they_stay_on_disk_when_they_need_more_than_the_limit(sample_dataset: Path) -> None:
    data = load_dataset(sample_dataset)
    size = count_bytes(data.info)
    assert size == sum(getattr(data.train, name).nbytes for name in FIELDS)
    for limit, kind in ((size, Windows), (size - 1, StoredWindows), (math.inf, Windows)):
        with open_dataset(sample_dataset, limit) as opened:
            assert isinstance(opened.train, kind)


def test_the_hold_out_is_read_alone(sample_dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sample_dataset, tmp_path / "copy")
    for shard in copy.glob("*-train.tfrecord-*"):
        shard.unlink()
    expected = load_dataset(sample_dataset).holdout
    np.testing.assert_array_equal(load_holdout(copy).holdout.wave, expected.wave)


def test_a_dataset_that_is_removed_while_it_is_open_is_read_to_the_end(
    sample_dataset: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(sample_dataset, tmp_path / "copy")
    expected = load_dataset(sample_dataset).train
    with open_dataset(copy, memory_bytes=0) as data:
        shutil.rmtree(copy)
        np.testing.assert_array_equal(
            data.train.take(np.array([2]))["wave"], expected.wave[2:3]
        )


def test_damage_is_found_at_the_start_and_while_training(
    sample_dataset: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(sample_dataset, tmp_path / "copy")
    (shard,) = copy.glob("*-train.tfrecord-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 16
    with open_dataset(copy, memory_bytes=0) as data:
        shard.write_bytes(content)
        with pytest.raises(UserError, match="is damaged") as error:
            data.train.take(np.arange(len(data.train)))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is damaged"), open_dataset(copy, memory_bytes=0):
        pass


def test_many_shards_are_not_all_held_open(
    sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(sample_dataset, tmp_path / "copy")
    (shard,) = copy.glob("*-train.tfrecord-*")
    for number in range(3):
        shutil.copy(shard, copy / f"voice-train.tfrecord-{number:05d}-of-00003")
    info = json.loads((copy / "dataset_info.json").read_text())
    train = next(split for split in info["splits"] if split["name"] == "train")
    train["shardLengths"] *= 3
    (copy / "dataset_info.json").write_text(json.dumps(info))
    metadata = json.loads((copy / "metadata.json").read_text())
    metadata["train_slices"] *= 3
    (copy / "metadata.json").write_text(json.dumps(metadata))
    expected = load_dataset(copy)
    monkeypatch.setattr("rvc_jax.data.tfds_reader._MAX_OPEN_FILES", 2)
    rows = np.arange(len(expected.train))
    with open_dataset(copy, memory_bytes=0) as data:
        np.testing.assert_array_equal(data.train.take(rows)["wave"], expected.train.wave)
        shutil.rmtree(copy)
        with pytest.raises(UserError, match="is damaged"):
            data.train.take(rows)
