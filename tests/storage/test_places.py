"""Datasets, caches and speech in buckets."""

import fsspec
import numpy as np
import pytest

from rvc_jax.config import PrepareConfig
from rvc_jax.data.dataset import iterate, load_dataset, read_info
from rvc_jax.data.prepare import BeamSettings, prepare
from rvc_jax.errors import UserError
from rvc_jax.storage import places

NANO = PrepareConfig(preset="nano")


@pytest.fixture
def bucket(sample_voice):
    """URL of an empty place in an emulated object store, with the sample voice beside it."""
    memory = fsspec.filesystem("memory")
    for path in sample_voice.iterdir():
        memory.pipe_file(f"/bucket/callie/{path.name}", path.read_bytes())
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def test_speech_cache_and_dataset_may_all_be_elsewhere(bucket, sample_dataset):
    info = prepare(f"{bucket}/callie", f"{bucket}/out", NANO, cache=f"{bucket}/cache")
    assert info == read_info(sample_dataset) == read_info(f"{bucket}/out")
    names = [name for _, name in places.list_files(f"{bucket}/out")]
    assert names == sorted(path.name for path in sample_dataset.iterdir())
    for name in names:
        assert places.read(f"{bucket}/out/{name}") == (sample_dataset / name).read_bytes()
    assert (
        len(places.list_files(f"{bucket}/cache")) == 24
    )  # six files: slices, peaks, pitch, content
    dataset = load_dataset(f"{bucket}/out")
    local = load_dataset(sample_dataset)
    np.testing.assert_array_equal(dataset.train.wave, local.train.wave)
    assert len(list(iterate(f"{bucket}/out", "holdout"))) == info.holdout_slices
    with pytest.raises(UserError, match="is a dataset already"):
        prepare(f"{bucket}/callie", f"{bucket}/out", NANO)
    again = prepare(
        f"{bucket}/callie", f"{bucket}/out", NANO, overwrite=True, cache=f"{bucket}/cache"
    )
    assert again == info


def test_missing_and_unreachable_places_are_one_line(
    bucket, sample_voice, tmp_path, monkeypatch
):
    with pytest.raises(UserError, match="is not a dataset"):
        read_info(f"{bucket}/nothing")
    with pytest.raises(UserError, match="holds no recordings"):
        prepare(f"{bucket}/nothing", tmp_path / "out", NANO)

    def refuse(*args, **kwargs):
        raise PermissionError("Access Denied\nrequest 123")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refuse)
    with pytest.raises(
        UserError, match=r"out/\S+ cannot be reached: Access Denied request 123"
    ) as error:
        prepare(sample_voice, f"{bucket}/out", NANO)
    assert "\n" not in str(error.value)


def test_a_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "a" / "b.bin"
    places.write(place, b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        places.write(place, b"new")
    assert (place.read_bytes(), [path.name for path in place.parent.iterdir()]) == (
        b"old",
        ["b.bin"],
    )
    assert places.read(tmp_path / "none") is None
    assert places.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"
    assert places.join(tmp_path, "a") == tmp_path / "a"


def test_an_emulated_s3(s3, sample_voice, sample_dataset):
    s3.mkdir("speech")
    for path in sample_voice.iterdir():
        s3.put_file(str(path), f"speech/callie/{path.name}")
    info = prepare("s3://speech/callie", "s3://speech/out", NANO, cache="s3://speech/cache")
    assert info == read_info(sample_dataset) == read_info("s3://speech/out")
    assert len(load_dataset("s3://speech/out").train) == info.train_slices
    with pytest.raises(UserError, match="nosuchbucket"):
        prepare("s3://nosuchbucket/callie", "s3://nosuchbucket/out", NANO)


@pytest.mark.heavy
def test_workers_of_beam_write_to_s3_themselves(s3, sample_voice, sample_dataset, monkeypatch):
    """Workers need not see any folder of the machine that sent them."""
    pytest.importorskip("apache_beam")
    s3.mkdir("written")
    uploaded = []
    upload = places.upload

    def listed(folder, *args, **kwargs):
        uploaded.extend(path.name for path in folder.iterdir())
        upload(folder, *args, **kwargs)

    monkeypatch.setattr(places, "upload", listed)
    workers = BeamSettings(
        "DirectRunner", "--direct_num_workers=2 --direct_running_mode=multi_processing"
    )
    info = prepare(sample_voice, "s3://written/out", NANO, beam=workers)
    assert "metadata.json" in uploaded and not [name for name in uploaded if "tfrecord" in name]
    assert info == read_info("s3://written/out")
    assert {path.rpartition("/")[0] for path in s3.find("written")} == {"written/out"}
    made = {name: places.read(url) for url, name in places.list_files("s3://written/out")}
    assert made == {path.name: path.read_bytes() for path in sample_dataset.iterdir()}
