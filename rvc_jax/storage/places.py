"""Places that are no local files: `gs://`, `s3://` and whatever else fsspec has a package for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rvc_jax.errors import UserError
from rvc_jax.storage.files import atomic_write

Location = Path | str
"""A local path, or a URL of one of fsspec's file systems."""

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}


def is_remote(place: Location) -> bool:
    return "://" in str(place)


def join(place: Location, *names: str) -> Location:
    """A place below another one."""
    return (
        "/".join([str(place).rstrip("/"), *names])
        if is_remote(place)
        else Path(place).joinpath(*names)
    )


def filesystem(place: Location) -> tuple[Any, str]:
    """The fsspec file system of a place, and the place's path in it. Raises UserError for one that
    is not installed."""
    import fsspec

    scheme = str(place).partition("://")[0]
    try:
        return fsspec.core.url_to_fs(str(place))
    except ImportError as error:
        package = _PACKAGES.get(scheme, f"fsspec's package for {scheme}://")
        raise UserError(
            f"{place}: `pip install {package}` to use {scheme}:// places"
        ) from error
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error


@contextlib.contextmanager
def user_errors(place: Location) -> Iterator[None]:
    """What a remote service refuses (no such bucket, no permission, no network) becomes one
    line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every service has exceptions of its own
        if not is_remote(place):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{place} cannot be reached: {reason}") from error


def exists(place: Location) -> bool:
    if not is_remote(place):
        return os.path.lexists(place)
    with user_errors(place):
        fs, path = filesystem(place)
        return fs.exists(path)


def read(place: Location) -> bytes | None:
    """A file's bytes; None if it is not there."""
    if not is_remote(place):
        try:
            return Path(place).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    with user_errors(place):
        fs, path = filesystem(place)
        try:
            return fs.cat_file(path)
        except FileNotFoundError:
            return None


def write(place: Location, content: bytes) -> None:
    """Write a file in one move: object stores show whole objects only, other systems rename."""
    if is_remote(place):
        with user_errors(place):
            fs, path = filesystem(place)
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, content)
        return
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)


def discard(place: Location) -> None:
    """Remove a file, if it is there."""
    if not is_remote(place):
        Path(place).unlink(missing_ok=True)
        return
    with user_errors(place), contextlib.suppress(FileNotFoundError):
        fs, path = filesystem(place)
        fs.rm_file(path)


def list_files(place: str) -> list[tuple[str, str]]:
    """(URL, name below the place) of all files of a remote folder, sorted; the name of a file that
    is named is ""."""
    with user_errors(place):
        fs, root = filesystem(place)
        root = root.rstrip("/")
        return sorted(
            (fs.unstrip_protocol(path), path[len(root) + 1 :]) for path in fs.find(root)
        )


class RemoteFile(NamedTuple):
    """A file of a remote folder."""

    bytes: int
    version: str
    """Another one whenever the file has been written anew."""


def list_versions(place: str) -> dict[str, RemoteFile]:
    """All files of a remote folder by their names below it, as they are now."""
    with user_errors(place):
        fs, root = filesystem(place)
        fs.invalidate_cache()
        root = root.rstrip("/")
        found = fs.find(root, detail=True)
        return {
            path[len(root) + 1 :]: RemoteFile(int(item["size"]), _version(item))
            for path, item in found.items()
        }


def _version(item: dict[str, Any]) -> str:
    return hashlib.sha256(
        repr(sorted(item.items(), key=lambda pair: pair[0])).encode()
    ).hexdigest()[:16]


def get(place: str, path: Path) -> None:
    """Copy a file of a remote service to a local one, in one move."""
    with user_errors(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            fs, source = filesystem(place)
            fs.get_file(source, file.name)


@contextlib.contextmanager
def local_file(place: Location) -> Iterator[Path]:
    """A file as a local one, for as long as the context lasts."""
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
        path = Path(folder) / str(place).rpartition("/")[2]
        get(str(place), path)
        yield path


@contextlib.contextmanager
def local_folder(place: Location) -> Iterator[Path]:
    """A folder without sub-folders as a local one, for as long as the context lasts."""
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
        for url, name in list_files(str(place)):
            if "/" not in name:
                get(url, Path(folder, name))
        yield Path(folder)


def put(path: Path, place: str) -> None:
    """Copy a local file to a place."""
    with user_errors(place):
        fs, target = filesystem(place)
        fs.put_file(str(path), target)


def upload(folder: Path, place: str, last: str) -> None:
    """Copy a folder without sub-folders; the file named `last` goes last: where it is, everything
    is."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == last, path.name)):
        put(path, join(place, path.name))


def copy(folder: str, place: str) -> None:
    """Copy a folder to another place of the same remote service."""
    with user_errors(place):
        (fs, source) = filesystem(folder)
        (_, target) = filesystem(place)
        for _, name in list_files(folder):
            fs.cp_file(f"{source}/{name}", f"{target}/{name}")


def remove(place: str) -> None:
    """Remove a remote folder and everything below it, if it is there."""
    with user_errors(place):
        fs, path = filesystem(place)
        if fs.exists(path):
            fs.rm(path, recursive=True)
