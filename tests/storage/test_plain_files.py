"""What is no plain file of bounded size is refused in one line, at once."""

import os
import socket
import time
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.storage import places
from rvc_jax.storage.plain_files import check_plain, open_plain, read_plain, read_text


@pytest.fixture
def odd_places(tmp_path, monkeypatch):
    """Everything that can stand in the place of a file, by what the message calls it."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("pipe")
    Path("link to a pipe").symlink_to("pipe")
    Path("circle").symlink_to("circle")
    Path("link to a device").symlink_to("/dev/zero")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        yield {
            "pipe": "a named pipe",
            "link to a pipe": "a named pipe",
            "circle": "leads back to itself",
            "link to a device": "a device",
            "/dev/zero": "a device",
            "/dev/tty": "a device",
            "folder": "a folder",
            "socket": "a socket",
            "zero\0byte": "cannot be the name",
            "n" * 300: "cannot be read: File name too long",
        }


def test_only_plain_files_are_opened(odd_places):
    begin = time.monotonic()
    for name, kind in odd_places.items():
        for function in (open_plain, check_plain, read_plain, read_text, places.read):
            with pytest.raises(UserError, match=kind) as caught:
                function(name)
            assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < 1


def test_missing_files_are_told_apart(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file/below"):
        for function in (open_plain, check_plain, read_plain):
            with pytest.raises(FileNotFoundError):
                function(tmp_path / name)
        assert places.read(tmp_path / name) is None


def test_links_to_plain_files_are_followed(tmp_path):
    (tmp_path / "file").write_bytes("\ufeffgrün\r\n".encode())
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "link") == (tmp_path / "file").read_bytes()
    assert read_text(tmp_path / "link") == "grün\r\n"
    assert check_plain(tmp_path / "link").st_size == len((tmp_path / "file").read_bytes())
    (tmp_path / "file").write_bytes(b"abc\xff")
    with pytest.raises(UserError, match=r"not text in UTF-8 \(byte 3\)"):
        read_text(tmp_path / "file")


def test_size_is_bounded_at_the_limit(tmp_path):
    file = tmp_path / "file"
    for size in (0, 1, 99, 100):
        file.write_bytes(b"x" * size)
        assert len(read_plain(file, 100)) == len(places.read(file, 100) or b"") == size
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    for function in (open_plain, check_plain, read_plain, places.read):
        with pytest.raises(UserError, match="too much for this kind of file"):
            function(file, 100)


def test_what_states_no_size_is_bounded_too():
    """Files of /proc have a size of 0 and contents all the same, as a growing file does."""
    assert len(read_plain("/proc/self/status")) > 100
    with pytest.raises(UserError, match="too much for this kind of file"):
        read_plain("/proc/self/status", 100)


def test_remote_objects_are_bounded_too():
    import fsspec

    memory = fsspec.filesystem("memory")
    for size in (0, 100, 101):
        memory.pipe_file("/limits/file", b"x" * size)
        if size <= 100:
            assert places.read("memory://limits/file", 100) == b"x" * size
        else:
            with pytest.raises(UserError, match="too much for this kind of file"):
                places.read("memory://limits/file", 100)
    memory.rm("/limits", recursive=True)
