"""Where records are written, and that TensorFlow Datasets stays as it was."""

import shutil

import pytest

from rvc_jax.config import PrepareConfig
from rvc_jax.data.prepare import prepare
from rvc_jax.data.tfds_import import import_tfds


def test_tfds_is_patched_only_while_it_writes():
    import_tfds()
    from tensorflow_datasets.core import example_serializer, writer

    from rvc_jax.data import tfds_builder, tfds_writer

    def current():
        return writer.Writer, writer.BeamWriter, example_serializer.ExampleSerializer

    own = tfds_writer.StableWriter, tfds_writer.StableBeamWriter
    before = current()
    assert tfds_builder.VoiceBuilder and not set(own) & set(before)
    with pytest.raises(ValueError, match="while writing"), tfds_writer.stable_writers():
        assert current() == (*own, tfds_writer.ReproducibleSerializer)
        raise ValueError("while writing")
    assert current() == before


def shards_of_records(dataset):
    """The number of train's shards, and the shard of each of its records."""
    tfds = import_tfds()
    split = tfds.builder_from_directory(str(dataset)).as_dataset(
        split="train", read_config=tfds.ReadConfig(add_tfds_id=True)
    )
    shards = {}
    for record in tfds.as_numpy(split):
        name, _, _ = record["tfds_id"].decode().partition("__")
        shards[record["source"], float(record["start"])] = name.partition(".tfrecord-")[2]
    return len(set(shards.values())), shards


def test_another_file_moves_no_record_to_another_shard(sample_voice, tmp_path, monkeypatch):
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig

    monkeypatch.setattr(ShardConfig, "min_shard_size", 200_000)
    config = PrepareConfig(preset="nano", holdout=0.0, holdout_min=0.0)
    fewer = tmp_path / "callie"
    shutil.copytree(sample_voice, fewer)
    (fewer / "ivr-concentrate.flac").unlink()
    prepare(fewer, tmp_path / "fewer", config)
    prepare(sample_voice, tmp_path / "more", config)
    (count, before) = shards_of_records(tmp_path / "fewer")
    (count_after, after) = shards_of_records(tmp_path / "more")
    assert count == count_after > 2 and len(after) > len(before)
    assert before.items() <= after.items()


def test_twice_as_many_shards_split_every_shard():
    from rvc_jax.data.tfds_writer import shard_index  # imports TensorFlow

    hashes = [number * (1 << 128) // 1000 for number in range(1000)]
    assert {shard_index(key, 8) for key in [*hashes, (1 << 128) - 1]} == set(range(8))
    assert all(shard_index(key, 16) // 2 == shard_index(key, 8) for key in hashes)
