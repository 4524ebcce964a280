import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from rvc_jax.data import tfds_reader
from rvc_jax.data.dataset import DatasetInfo, iterate, load_dataset, read_info
from rvc_jax.errors import UserError


@pytest.fixture
def copy(sample_dataset, tmp_path):
    return shutil.copytree(sample_dataset, tmp_path / "copy")


def test_slices_are_padded_with_zeros(sample_dataset):
    dataset = load_dataset(sample_dataset)
    for windows, count in (
        (dataset.train, dataset.info.train_slices),
        (dataset.holdout, dataset.info.holdout_slices),
    ):
        assert len(windows) == count > 0
        assert (windows.wave.shape, windows.wave.dtype) == ((count, 336 * 160), np.int16)
        assert (windows.content.shape, windows.content.dtype) == ((count, 168, 384), np.float16)
        assert (windows.f0.shape, windows.f0.dtype) == ((count, 336), np.float32)
        assert (windows.lengths.dtype, windows.speaker.dtype, windows.start.dtype) == (
            np.int32,
            np.int32,
            np.float64,
        )
        assert len(windows.source) == count
        assert windows.lengths.max() <= 330
        for i, frames in enumerate(windows.lengths):
            assert not windows.wave[i, frames * 160 :].any()
            assert not windows.content[i, (frames + 1) // 2 :].any()
            assert not windows.f0[i, frames:].any()
            assert windows.wave[i, (frames - 1) * 160 : frames * 160].any()
            assert windows.content[i, (frames + 1) // 2 - 1].any()
        assert (windows.speaker == 0).all()


def test_tensorflow_datasets_reads_it_without_our_code(sample_dataset):
    import tensorflow_datasets as tfds

    info = read_info(sample_dataset)
    builder = tfds.builder_from_directory(str(sample_dataset))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": info.train_slices,
        "holdout": info.holdout_slices,
    }
    record = next(iter(tfds.as_numpy(builder.as_dataset(split="holdout"))))
    names = {"wave", "scale", "content", "f0", "speaker", "source", "start"}
    assert set(record) == names and record["wave"].dtype == np.int16
    frames = len(record["f0"])
    assert record["wave"].shape == (frames * 160,)
    assert record["content"].shape == ((frames + 1) // 2, 384)
    assert builder.info.metadata["fingerprint"] == info.fingerprint


def test_info_survives_json(sample_dataset):
    info = read_info(sample_dataset)
    assert DatasetInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_info_is_read_without_tensorflow(sample_dataset):
    code = (
        "import sys; from rvc_jax.data.dataset import read_info; read_info(sys.argv[1]); "
        "print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, sample_dataset], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "rvc_jax.data.dataset" in loaded
    assert not {"tensorflow", "tensorflow_datasets", "jax"} & loaded


@pytest.mark.parametrize("make", ["missing", "file", "folder"])
def test_what_is_not_a_dataset_is_refused(tmp_path, make):
    path = tmp_path / "it"
    if make == "file":
        path.write_text("text")
    elif make == "folder":
        path.mkdir()
        (path / "metadata.json").write_text('{"title": "a dataset of somebody else"}')
    for read in (read_info, load_dataset):
        with pytest.raises(UserError, match="is not a dataset made by"):
            read(path)


def test_another_version_is_refused(copy):
    metadata = json.loads((copy / "metadata.json").read_text())
    (copy / "metadata.json").write_text(json.dumps(metadata | {"version": "9.0.0"}))
    with pytest.raises(UserError, match=r"version 9\.0\.0.*prepare it again"):
        load_dataset(copy)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut_in_half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, cut_in_half, lambda path: path.unlink()],
    ids=["flip", "cut", "gone"],
)
def test_a_damaged_shard_is_told_in_one_line(copy, split, damage):
    (shard,) = copy.glob(f"voice-{split}.tfrecord-*")
    damage(shard)
    with pytest.raises(UserError, match="is damaged.*prepare it again") as error:
        load_dataset(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["metadata.json", "dataset_info.json", "features.json"])
def test_a_damaged_description_is_told(copy, name):
    cut_in_half(copy / name)
    with pytest.raises(UserError, match="is damaged"):
        load_dataset(copy)


def test_the_identity_is_that_of_the_content(copy, sample_dataset):
    dataset = load_dataset(sample_dataset)
    assert load_dataset(copy).identity == dataset.identity  # moved
    one_bit = dataset.holdout.wave.copy()
    one_bit[0, 0] ^= 1
    louder = dataclasses.replace(dataset.holdout, wave=one_bit)
    fewer = dataclasses.replace(
        dataset.train, source=dataset.train.source[1:], lengths=dataset.train.lengths[1:]
    )
    for change in ({"holdout": louder}, {"train": fewer}, {"holdout": dataset.train}):
        other = dataclasses.replace(dataset, **change)
        assert other.identity != dataset.identity
        assert other.identity[:16] == dataset.info.fingerprint[:16]


def replace_once(copy, monkeypatch):
    """Put another dataset in the place of this one when its records are asked for."""
    real = tfds_reader.open_split
    new = shutil.copytree(copy, copy.with_name("new"))
    metadata = json.loads((new / "metadata.json").read_text())
    (new / "metadata.json").write_text(json.dumps(metadata | {"notes": ["the new one"]}))

    @contextlib.contextmanager
    def open_and_replace(place, split, expected):
        with real(place, split, expected) as records:
            if new.exists():
                shutil.rmtree(copy)
                new.rename(copy)
            yield records

    monkeypatch.setattr(tfds_reader, "open_split", open_and_replace)


def test_one_that_is_replaced_while_it_is_read_is_read_again(copy, monkeypatch):
    replace_once(copy, monkeypatch)
    dataset = load_dataset(copy)
    assert dataset.info.notes == ("the new one",)
    assert len(dataset.train) == dataset.info.train_slices


def test_records_of_one_that_is_replaced_are_refused_at_the_end(copy, monkeypatch):
    replace_once(copy, monkeypatch)
    with pytest.raises(UserError, match="was replaced while it was read"):
        list(iterate(copy, "holdout"))


def test_a_dataset_is_read_without_tensorflow(sample_dataset):
    """Its import takes 5 s and 0.7 GB, at every start of a training."""
    code = (
        "import sys; from rvc_jax.data.dataset import load_dataset;"
        f"load_dataset({str(sample_dataset)!r}); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
