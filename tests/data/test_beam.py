"""Preparation on Apache Beam."""

import pytest

from rvc_jax.cli.main import main
from rvc_jax.config import PrepareConfig
from rvc_jax.data.beam import BeamSettings
from rvc_jax.data.prepare import prepare
from rvc_jax.errors import UserError

pytest.importorskip("apache_beam")


def test_several_workers_make_the_same_dataset(sample_voice, sample_dataset, tmp_path, capfd):
    options = "--beam-options=--direct_num_workers=2 --direct_running_mode=multi_processing"
    place = [
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--preset",
        "nano",
    ]
    assert main(["prepare", str(sample_voice), *place, "--beam", "DirectRunner", options]) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert made == {path.name: path.read_bytes() for path in sample_dataset.iterdir()}
    # Pitch, content and peaks of six files.
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 18
    assert "Traceback" not in capfd.readouterr().err


def test_beam_writes_the_same_shards(sample_voice, tmp_path, monkeypatch):
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig

    monkeypatch.setattr(ShardConfig, "min_shard_size", 200_000)
    config = PrepareConfig(preset="nano")
    prepare(sample_voice, tmp_path / "here", config)
    prepare(
        sample_voice,
        tmp_path / "beam",
        config,
        beam=BeamSettings("DirectRunner", "--direct_num_workers=1"),
    )
    made = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("here", "beam")
    ]
    assert made[0] == made[1] and len([name for name in made[0] if "train" in name]) > 2


def test_options_reach_the_runner():
    settings = BeamSettings(
        "FlinkRunner", "--flink_master=10.0.0.1:8081 --parallelism=8 --region 'a b'"
    )
    options = settings.pipeline_options().get_all_options()
    assert (options["runner"], options["flink_master"], options["region"]) == (
        "FlinkRunner",
        "10.0.0.1:8081",
        "a b",
    )
    with pytest.raises(UserError, match="cannot be read"):
        BeamSettings("DirectRunner", "--a 'open").pipeline_options()


def test_an_unknown_runner_is_one_line(sample_voice, tmp_path, capsys):
    place = [
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--preset",
        "nano",
    ]
    assert main(["prepare", str(sample_voice), *place, "--beam", "NoSuchRunner"]) == 2
    assert "NoSuchRunner" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
