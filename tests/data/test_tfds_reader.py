"""What stands beside the shards of a dataset is checked, and records come in the order of TFDS."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from rvc_jax.cli.main import main
from rvc_jax.data.dataset import iterate, load_dataset
from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.data.tfds_reader import interleave, open_split
from rvc_jax.errors import UserError

TEXT = "tensorflow_datasets.core.features.text_feature.Text"


@pytest.fixture
def copy(sample_dataset, tmp_path):
    return shutil.copytree(sample_dataset, tmp_path / "copy")


def change(file, *path, to):
    """Set a value within a file of JSON."""
    content = json.loads(file.read_text())
    *above, last = path
    place = content
    for key in above:
        place = place[key]
    place[last] = to
    file.write_text(json.dumps(content))


SOURCE = ("featuresDict", "features", "source")
HOSTILE_FEATURES = {
    "a module beside it": ((*SOURCE, "pythonClassName"), "evil.Text"),
    "a module of the library": ((*SOURCE, "pythonClassName"), "venv.__main__.Text"),
    "another feature": (
        (*SOURCE, "pythonClassName"),
        TEXT.replace("text_feature.Text", "image_feature.Image"),
    ),
    "the dictionary": (("pythonClassName",), "evil.FeaturesDict"),
    "one more feature": (
        ("featuresDict", "features", "more"),
        {"pythonClassName": "evil.More", "text": {}},
    ),
    "a nested one": (
        (*SOURCE,),
        {
            "pythonClassName": "evil.Sequence",
            "sequence": {"feature": {"pythonClassName": TEXT}, "length": "-1"},
        },
    ),
    "a number": ((*SOURCE, "pythonClassName"), 5),
    "no features": (("featuresDict", "features"), {}),
    "no text": (("featuresDict",), None),
}


@pytest.mark.parametrize("name", HOSTILE_FEATURES)
def test_nothing_that_features_name_is_imported(copy, name, tmp_path, monkeypatch):
    path, value = HOSTILE_FEATURES[name]
    change(copy / "features.json", *path, to=value)
    (tmp_path / "evil.py").write_text(
        "import tensorflow_datasets as tfds\nclass Text(tfds.features.Text): pass\n"
        "class FeaturesDict(tfds.features.FeaturesDict): pass\nMore = Sequence = Text\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as `python -m` and notebooks have it
    loaded = set(sys.modules)
    with pytest.raises(UserError) as caught:
        load_dataset(copy)
    assert "\n" not in str(caught.value)
    assert not {"evil", "venv.__main__"} & (set(sys.modules) - loaded)


HOSTILE_INFO = {
    "another folder": (("name",), "../other/voice"),
    "another place": (("splits", 0, "filepathTemplate"), "../{DATASET}-{SPLIT}"),
    "an address": (("splits", 0, "filepathTemplate"), "gs://bucket/{SPLIT}"),
    "another format": (("fileFormat",), "array_record"),
    "too many shards": (("splits", 0, "shardLengths"), ["0"] * 200_000),
    "other records": (("splits", 0, "shardLengths"), ["13"]),
    "a negative number": (("splits", 0, "shardLengths"), ["-12"]),
    "a number in words": (("splits", 0, "shardLengths"), ["twelve"]),
    "two alike": (("splits", 1, "name"), "train"),
    "a list": (("splits",), [[]]),
}


@pytest.mark.parametrize("name", HOSTILE_INFO)
def test_only_shards_of_the_dataset_are_opened(copy, name):
    path, value = HOSTILE_INFO[name]
    change(copy / "dataset_info.json", *path, to=value)
    with pytest.raises(UserError, match="damaged"):
        load_dataset(copy)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["voice-train.tfrecord-00000-of-00001", "features.json"])
def test_what_is_no_file_is_refused(copy, kind, name, capsys):
    place = copy / name
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    with pytest.raises(UserError, match=f"{name} is not a file, but"):
        next(iterate(copy, "train"))
    assert main(["info", str(copy)]) == 0  # the description is whole
    assert f"its records cannot be read: {copy / name} is not a file" in capsys.readouterr().out


def test_counts_that_the_shards_cannot_hold_are_refused_at_once(copy):
    change(copy / "metadata.json", "train_slices", to=10**9)
    change(copy / "dataset_info.json", "splits", 0, "shardLengths", to=[str(10**9)])
    with pytest.raises(UserError, match="damaged"):
        load_dataset(copy)


def test_a_link_to_a_dataset_is_as_good(copy, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(copy)
    monkeypatch.chdir(tmp_path)
    relative = load_dataset("link")
    np.testing.assert_array_equal(relative.train.wave, load_dataset(copy).train.wave)


def test_the_order_is_that_of_tensorflow_datasets():
    """Runs depend on it: the order decides which windows a step sees."""
    tfds = import_tfds()
    import tensorflow as tf

    config = tfds.ReadConfig()
    random = np.random.default_rng(0)
    for shards in (1, 3, 16, 17, 50):
        lengths = random.integers(1, 70, shards)
        lengths[random.random(shards) < 0.5] //= 16
        lengths = np.maximum(lengths * random.choice([1, 16], shards), 1)
        numbered = tf.data.Dataset.from_tensor_slices((np.arange(shards), lengths))
        theirs = numbered.interleave(
            lambda shard, length: tf.data.Dataset.from_tensors(shard).repeat(length),
            cycle_length=16,  # TFDS's own default, where its config has none
            block_length=config.interleave_block_length,
            num_parallel_calls=config.num_parallel_calls_for_interleave_files,
            deterministic=True,
        )
        assert list(interleave(lengths.tolist())) == list(theirs.as_numpy_iterator())


def test_every_value_is_what_tensorflow_datasets_reads(sample_dataset):
    tfds = import_tfds()
    split = tfds.builder_from_directory(str(sample_dataset)).as_dataset(split="train")
    theirs = list(tfds.as_numpy(split))
    with open_split(sample_dataset, "train", len(theirs)) as stored:
        found = list(stored.scan())
        assert len(found) == len(theirs) > 1
        for (address, record), expected in zip(found, theirs, strict=True):
            assert record.keys() == expected.keys()
            for each in (record, stored.read(address)):
                for name, value in expected.items():
                    np.testing.assert_array_equal(each[name], value)
                    assert np.asarray(each[name]).dtype == np.asarray(value).dtype


def test_a_shard_with_another_number_of_records_is_refused(copy):
    info = json.loads((copy / "dataset_info.json").read_text())
    train = next(split for split in info["splits"] if split["name"] == "train")
    count = int(train["shardLengths"][0])
    (shard,) = copy.glob("voice-train.tfrecord-*")
    for number in range(2):
        shutil.copy(shard, copy / f"voice-train.tfrecord-{number:05d}-of-00002")
    train["shardLengths"] = [str(count + 1), str(count - 1)]
    (copy / "dataset_info.json").write_text(json.dumps(info))
    metadata = json.loads((copy / "metadata.json").read_text())
    metadata["train_slices"] = 2 * count
    (copy / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="damaged"):
        load_dataset(copy)
