"""Atomic writes, sizes, and full disks in any library's words."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rvc_jax.errors import UserError
from rvc_jax.storage.files import (
    SPARE_BYTES,
    WINDOWS_RESERVED_NAME,
    atomic_folder,
    atomic_write,
    check_disk_space,
    disk_full,
    file_sha256,
    folder_bytes,
    is_vacant,
    write_array,
    write_json,
)

ADVICE = "free some space and run the same command again"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and names(tmp_path) == ["a.bin"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "made"
    if exists:
        folder.mkdir()
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as unfinished:
        (unfinished / "a").write_text("a")
        raise ZeroDivisionError
    assert is_vacant(folder) and names(tmp_path) == (["made"] if exists else [])
    with atomic_folder(folder) as unfinished:
        (unfinished / "a").write_text("a")
        assert is_vacant(folder)
    assert names(folder) == ["a"] and names(tmp_path) == ["made"]
    assert not is_vacant(folder) and not is_vacant(folder / "a")


def test_values_and_arrays(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1,\n  null\n ]\n}'
    write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_sizes_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"12345")
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b" / "gone").symlink_to(tmp_path / "nowhere")
    assert folder_bytes(tmp_path) == 8 and folder_bytes(tmp_path / "a") == 3
    assert folder_bytes(tmp_path / "nowhere") == 0
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"123").hexdigest()


@pytest.mark.parametrize(
    ("name", "is_reserved"),
    [("con", True), ("NUL.txt", True), ("COM1", True), ("console", False), ("a.con", False)],
)
def test_names_that_windows_reserves(name: str, is_reserved: bool) -> None:
    assert (WINDOWS_RESERVED_NAME.fullmatch(name) is not None) == is_reserved


def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=SPARE_BYTES + 1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    folder = tmp_path / "not" / "there"
    check_disk_space(folder, 1_000_000)
    with pytest.raises(UserError) as error:
        check_disk_space(folder, 1_000_001, "the voice", "delete old ones")
    assert str(error.value) == (
        f"disk full: {folder} has 65.0 MB free, the voice needs 65.0 MB; delete old ones"
    )
    assert asked == [tmp_path, tmp_path]


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "a file could not be written"),
        (RuntimeError("INTERNAL: No space left on device [28]"), "a file could not be written"),
        (OSError("1000 requested and 10 written"), "a file could not be written"),
        (ResourceExhaustedError("a/b.tfrecord"), "a file could not be written"),
    ],
)
def test_a_full_disk_in_any_words(error: Exception, place: str) -> None:
    expected = f"disk full: {place}; {ADVICE}"
    assert disk_full(error) == expected
    wrapped = ValueError("it failed")
    wrapped.__cause__ = error
    assert disk_full(wrapped) == expected
    during = KeyError("later")
    during.__context__ = wrapped
    assert disk_full(during) == expected


def test_a_user_error_says_it_best() -> None:
    outer = OSError(errno.ENOSPC, "No space left on device", "a/b")
    outer.__cause__ = UserError("disk full: the checkpoint does not fit")
    assert disk_full(outer) == "disk full: the checkpoint does not fit"


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "odd"), UserError("no voice")])
def test_other_errors(error: Exception | None) -> None:
    assert disk_full(error) is None
