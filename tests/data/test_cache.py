"""Results of computations by their inputs."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.config import PrepareConfig
from rvc_jax.data.cache import Cache, make_cache_key
from rvc_jax.data.prepare import prepare
from rvc_jax.errors import UserError
from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir

KEY = make_cache_key("a", 1)


def test_arrays_and_values(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get_array(KEY) is None and cache.get_value(KEY, dict) is None
    assert not cache.has_array(KEY)
    cache.put_array(KEY, np.arange(3, dtype=np.float16))
    cache.put_value(KEY, {"slices": [(0, 1, None)]})
    array = cache.get_array(KEY)
    assert array is not None and array.dtype == np.float16 and array.tolist() == [0, 1, 2]
    assert cache.get_value(KEY, dict) == {"slices": [[0, 1, None]]}
    assert cache.has_array(KEY) and cache.damaged == 0
    empty = np.zeros((0, 4), np.float32)
    cache.put_array(KEY, empty)
    assert (found := cache.get_array(KEY)) is not None and found.shape == empty.shape


def test_keys_depend_on_every_value() -> None:
    keys = {make_cache_key(*parts) for parts in (("a", 1), ("a", 1.5), ("b", 1), ("a", None))}
    assert len(keys) == 4
    assert make_cache_key({"a": 1, "b": 2}) == make_cache_key({"b": 2, "a": 1})


def flip_each_byte(content: bytes) -> list[bytes]:
    changed = []
    for place in range(len(content)):
        other = bytearray(content)
        other[place] ^= 1
        changed.append(bytes(other))
    return changed


def test_no_change_of_an_entry_goes_unnoticed(tmp_path: Path) -> None:
    """Also one that leaves valid JSON, such as another digit."""
    cache = Cache(tmp_path)
    cache.put_array(KEY, np.arange(4, dtype=np.float16))
    cache.put_value(KEY, {"seconds": 1.25})
    count = 0
    for file in sorted(tmp_path.rglob("*.*")):
        whole = file.read_bytes()
        halves = [whole[: len(whole) // 2], b"", whole + b" ", b"{}", b"[1]", b"1", b"null"]
        for content in [*flip_each_byte(whole), *halves]:
            file.write_bytes(content)
            if file.suffix == ".json":
                assert cache.get_value(KEY, dict) is None
            else:
                assert cache.get_array(KEY) is None
            assert not file.exists()
            count += 1
    assert cache.damaged == count > 400


def test_an_entry_of_another_key_counts_as_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    other = make_cache_key("b")
    for key, value in ((KEY, 1), (other, 2)):
        cache.put_value(key, {"value": value})
        cache.put_array(key, np.full(3, value))
    for extension in ("json", "npy"):
        source = tmp_path / other[:2] / f"{other}.{extension}"
        shutil.copy(source, tmp_path / KEY[:2] / f"{KEY}.{extension}")
    assert cache.get_value(KEY, dict) is None and cache.get_array(KEY) is None
    assert cache.get_value(other, dict) == {"value": 2}


def test_an_entry_of_another_type_counts_as_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for value in ([], 5, "text", None, [[1]]):
        cache.put_value(KEY, value)
        assert cache.get_value(KEY, dict) is None
    cache.put_array(KEY, np.array(["text"]))
    assert cache.get_array(KEY) is None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_counts_as_missing(tmp_path: Path, kind: str) -> None:
    cache = Cache(tmp_path)
    cache.put_value(KEY, {})
    (file,) = tmp_path.rglob("*.json")
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    assert cache.get_value(KEY, dict) is None and cache.damaged == 1


def test_a_damaged_cache_gives_the_same_dataset(
    sample_voice: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    from reporting import KeepingReporter

    nano = PrepareConfig(preset="nano")
    shutil.copytree(cache_dir() / "features", tmp_path / "cache")
    entries = sorted((tmp_path / "cache").rglob("*.*"))
    for number, file in enumerate(entries[::2]):
        content = bytearray(file.read_bytes())
        content[-1 - number % 40] ^= 2
        file.write_bytes(content)
    reporter = KeepingReporter()
    prepare(sample_voice, tmp_path / "second", nano, reporter, cache=tmp_path / "cache")
    for file in sample_dataset.iterdir():
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes()
    said = [text for text in reporter.messages if "damaged entries of the cache" in text]
    assert len(said) == 1


def test_a_cache_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    cache = Cache(tmp_path / "cache")
    with pytest.raises(
        UserError, match=r"the cache .*/cache cannot be written.*--cache"
    ) as error:
        cache.put_value("a" * 64, 1)
    assert "RVC_JAX_HOME" in str(error.value)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(places, "write", fail)
    with pytest.raises(UserError, match=r"disk full: the cache .*--cache"):
        cache.put_array("b" * 64, np.zeros(3))
