import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from rvc_jax.config import PrepareConfig
from rvc_jax.data.dataset import VERSION, load_dataset, read_info
from rvc_jax.data.prepare import prepare

VOICE = Path(__file__).parents[2] / "data" / "voice"


@pytest.fixture
def tfds_command():
    command = shutil.which("tfds", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("the command `tfds` is not installed")
    pytest.importorskip("apache_beam", reason="the command `tfds` needs it")
    return command


def test_tfds_build_makes_the_same_dataset_as_prepare(
    tfds_command, sample_voice, sample_dataset, tmp_path
):
    result = subprocess.run(
        [tfds_command, "build", "--data_dir", str(tmp_path), "--manual_dir", str(sample_voice)],
        cwd=VOICE,
        env=os.environ | {"PYTHONPATH": str(VOICE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    built = tmp_path / "voice" / "nano" / VERSION
    assert read_info(built) == read_info(sample_dataset)
    assert load_dataset(built).train.source == load_dataset(sample_dataset).train.source


def test_tfds_build_takes_the_bundled_sample_and_refuses_a_missing_folder(tmp_path):
    from rvc_jax.data.sources import find_bundled_sample
    from rvc_jax.data.tfds_builder import find_speech_folder, tfds
    from rvc_jax.errors import UserError

    def manager(**named):
        return tfds.download.DownloadManager(
            download_dir=tmp_path, manual_dir_instructions="x", **named
        )

    assert find_speech_folder(manager(manual_dir=tmp_path / "manual")) == find_bundled_sample(
        "voice"
    )
    with pytest.raises(UserError, match="missing"):
        find_speech_folder(manager(manual_dir=tmp_path / "missing"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.wav").write_bytes(b"x")
    assert find_speech_folder(manager(manual_dir=tmp_path / "mine")) == tmp_path / "mine"


def shards_of_records(dataset):
    """The number of train's shards, and the shard of each of its records."""
    from rvc_jax.data.tfds_builder import tfds

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
    from rvc_jax.data.tfds_writer import shard_index

    hashes = [number * (1 << 128) // 1000 for number in range(1000)]
    assert {shard_index(key, 8) for key in [*hashes, (1 << 128) - 1]} == set(range(8))
    assert all(shard_index(key, 16) // 2 == shard_index(key, 8) for key in hashes)
