"""Results of computations by their inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvc_jax.data.cache import Cache, make_cache_key


def test_arrays_and_values(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = make_cache_key("a", 1)
    assert cache.get_array(key) is None and cache.get_value(key) is None
    assert not cache.has_array(key)
    cache.put_array(key, np.arange(3, dtype=np.float16))
    cache.put_value(key, {"slices": [(0, 1, None)]})
    array = cache.get_array(key)
    assert array is not None and array.dtype == np.float16 and array.tolist() == [0, 1, 2]
    assert cache.get_value(key) == {"slices": [[0, 1, None]]}
    assert cache.has_array(key)


def test_keys_depend_on_every_value() -> None:
    keys = {make_cache_key(*parts) for parts in (("a", 1), ("a", 1.5), ("b", 1), ("a", None))}
    assert len(keys) == 4
    assert make_cache_key({"a": 1, "b": 2}) == make_cache_key({"b": 2, "a": 1})


def test_damaged_entries_count_as_missing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = make_cache_key("a")
    cache.put_array(key, np.arange(1000))
    cache.put_value(key, [1])
    for path in tmp_path.rglob("*.*"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    assert cache.get_array(key) is None and cache.get_value(key) is None
    assert not cache.has_array(key)  # it is removed
