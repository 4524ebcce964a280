"""Local paths and URLs of buckets behind one set of functions.

A URL is `gs://BUCKET/NAME`, `gcs://`, `s3://` or `s3a://` and nothing else: fsspec by itself would
follow chains (`zip://a::http://b`) and contact whatever an address names. `memory://` is a place
within the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.environment import check_online
from rvc_jax.storage.files import atomic_write
from rvc_jax.storage.plain_files import SETTINGS_BYTES, read_plain
from rvc_jax.storage.scratch import temporary_folder

Location = Path | str
"""A local path, or the URL of something in a bucket."""

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs"}
_URL = re.compile(r"(gs|gcs|s3|s3a|memory)://([A-Za-z0-9][A-Za-z0-9._-]*)?(/(?!.*::).*)?")
_MAX_REASON = 200


class RemoteFile(NamedTuple):
    """A file of a remote folder."""

    bytes: int
    version: str
    """Changes whenever the file is written anew."""


def is_remote(place: Location) -> bool:
    """Return whether a place is a URL."""
    return "://" in str(place)


def find_bucket(place: Location) -> str | None:
    """Return the scheme and the bucket of a URL, `gs://BUCKET`; None for a path on this machine.

    Raises:
        UserError: It is a URL of another kind.
    """
    if not is_remote(place):
        return None
    found = _URL.fullmatch(str(place))
    if found is None:
        raise UserError(
            f"{sanitize(place)} is not a place that rvc-jax reads: name a path on this machine, "
            "or gs://BUCKET/NAME or s3://BUCKET/NAME"
        )
    return f"{found[1]}://{found[2] or ''}"


def join(place: Location, *names: str) -> Location:
    """Return a place below another one."""
    if is_remote(place):
        return "/".join([str(place).rstrip("/"), *names])
    return Path(place).joinpath(*names)


def filesystem(place: Location) -> tuple[Any, str]:
    """Return the fsspec file system of a place, and the place's path in it.

    Raises:
        UserError: The package for that file system is not installed, the URL is invalid, or
            $RVC_JAX_OFFLINE is set.
    """
    find_bucket(place)
    scheme = str(place).partition("://")[0]
    if scheme != "memory":
        check_online(place)
    import fsspec

    try:
        return fsspec.core.url_to_fs(str(place))
    except ImportError as error:
        package = _PACKAGES[scheme]
        raise UserError(
            f"{place}: `pip install {package}` to use {scheme}:// places"
        ) from error
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error


@contextlib.contextmanager
def user_errors(place: Location) -> Iterator[None]:
    """Turn what a remote service raises (no bucket, permission or network) into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every service has exceptions of its own
        if not is_remote(place):
            raise
        reason = " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
        raise UserError(f"{place} cannot be reached: {reason}") from error


def exists(place: Location) -> bool:
    """Return whether something is at a place, also a broken link."""
    if not is_remote(place):
        return os.path.lexists(place)
    with user_errors(place):
        fs, path = filesystem(place)
        return fs.exists(path)


def read(place: Location, limit: int = SETTINGS_BYTES) -> bytes | None:
    """Return a file's bytes; None if it does not exist.

    Args:
        place: A plain file, or an object of a remote store.
        limit: The most bytes that it may have, and that are read.

    Raises:
        UserError: It is not a plain file, has more bytes than the limit, or can't be read.
    """
    if not is_remote(place):
        try:
            return read_plain(str(place), limit)
        except FileNotFoundError:
            return None
    with user_errors(place):
        fs, path = filesystem(place)
        try:
            content = _read_range(fs, path, limit + 1)
        except FileNotFoundError:
            return None
        if len(content) > limit:
            raise UserError(
                f"{place} has more than {limit / 1e6:,.0f} MB, too much for this kind of file"
            )
        return content


def _read_range(fs: Any, path: str, count: int) -> bytes:
    """Return an object's first bytes, at most `count`, in one request."""
    try:
        return fs.cat_file(path, 0, count)
    except FileNotFoundError:
        raise
    except Exception:  # every service has exceptions of its own
        # Some refuse a range that begins or ends beyond the object, an empty one for instance.
        size = fs.info(path)["size"]
        if size >= count:
            raise
        return fs.cat_file(path)


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
    """Remove a file if it exists."""
    if not is_remote(place):
        Path(place).unlink(missing_ok=True)
        return
    with user_errors(place), contextlib.suppress(FileNotFoundError):
        fs, path = filesystem(place)
        fs.rm_file(path)


def list_files(place: str) -> list[tuple[str, str]]:
    """Return (URL, name below the place) of all files of a remote folder, sorted.

    If the place is a file itself, its name is "".
    """
    with user_errors(place):
        fs, root = filesystem(place)
        root = root.rstrip("/")
        paths = fs.find(root)
        return sorted((fs.unstrip_protocol(path), path[len(root) + 1 :]) for path in paths)


def list_versions(place: str) -> dict[str, RemoteFile]:
    """Return all files of a remote folder by their names below it, without fsspec's cache."""
    with user_errors(place):
        fs, root = filesystem(place)
        fs.invalidate_cache()
        root = root.rstrip("/")
        found = fs.find(root, detail=True)
        return {
            path[len(root) + 1 :]: RemoteFile(int(item["size"]), _hash_details(item))
            for path, item in found.items()
        }


def _hash_details(item: dict[str, Any]) -> str:
    # Services state different things (etag, generation, time): hash all of them.
    details = sorted(item.items(), key=lambda pair: pair[0])
    return hashlib.sha256(repr(details).encode()).hexdigest()[:16]


def get(place: Location, path: Path) -> None:
    """Copy a remote file to a local one, in one move."""
    with user_errors(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            fs, source = filesystem(place)
            fs.get_file(source, file.name)


@contextlib.contextmanager
def local_file(place: Location) -> Iterator[Path]:
    """Make a file available as a local one within the block."""
    if not is_remote(place):
        yield Path(place)
        return
    with temporary_folder() as folder:
        path = Path(folder) / str(place).rpartition("/")[2]
        get(place, path)
        yield path


def put(path: Path, place: Location) -> None:
    """Copy a local file to a remote place."""
    with user_errors(place):
        fs, target = filesystem(place)
        fs.put_file(str(path), target)


def upload(folder: Path, place: Location, last: str) -> None:
    """Copy a folder without sub-folders to a remote place.

    The file named `last` is copied last: where it exists, the folder is complete.
    """
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == last, path.name)):
        put(path, join(place, path.name))


def copy(folder: str, place: str) -> None:
    """Copy a folder to another place of the same remote service."""
    with user_errors(place):
        fs, source = filesystem(folder)
        _, target = filesystem(place)
        for _, name in list_files(folder):
            fs.cp_file(f"{source}/{name}", f"{target}/{name}")


def remove(place: Location) -> None:
    """Remove a remote folder and everything below it, if it exists."""
    with user_errors(place):
        fs, path = filesystem(place)
        if fs.exists(path):
            fs.rm(path, recursive=True)
