"""Unpacks voices from zip archives, as they are shared: a .pth, perhaps an .index, and other files.

An archive is not trusted. Its list of members is checked before anything is unpacked; only the two
files that are wanted are unpacked; and their real bytes are counted meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.files import (
    WINDOWS_RESERVED_NAME,
    atomic_folder,
    check_disk_space,
    is_vacant,
)

MAX_BYTES = 4 << 30
"""Size of an unpacked voice; RVC's have a few hundred megabytes at most."""

_MAX_LIST_BYTES = 1 << 20
"""Size of the list of members, which is read at once: some ten thousand names."""

_MAX_RATIO = 100
"""Of unpacked to packed bytes. Weights are noise, which shrinks by a few percent."""

_BLOCK = 1 << 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # LZMA takes the memory that a file asks for
_FIXED_HEADER = 30
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".xz")
_MAX_NAME = 100
_sanitize = functools.partial(sanitize, limit=_MAX_NAME)


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """The files of an unpacked voice."""

    pth: Path
    index: Path | None


def extract_model(archive: Path, folder: Path) -> ModelFiles:
    """Unpack the voice in a zip archive.

    Args:
      archive: Holds one .pth and at most one .index, or one "added_" among several, in any
        subfolders.
      folder: Folder to make with these two files, whole or not at all; it may exist if it is empty.

    Raises:
      UserError: The archive can't be read, is damaged, holds no voice or several, or is malicious:
        its names lead out of the folder, or it has links or members that are encrypted, overlap or
        unpack to far more than they should. Or the disk has too little room, or `folder` is in use.
    """
    archive = Path(archive)
    folder = Path(folder)
    try:
        with _open(archive) as file, zipfile.ZipFile(file) as members:
            pth, index = _select_members(members)
            _check_target(folder, [pth, *index])
            with atomic_folder(folder) as unfinished:
                names = [_unpack(members, member, unfinished) for member in (pth, *index)]
    except UserError:
        raise
    except _RefusedError as reason:
        raise UserError(f"{archive}: {reason}") from None
    except OSError as error:
        raise UserError(
            f"{archive}: cannot be unpacked into {folder}: {describe_os_error(error)}"
        ) from None
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(
            f"{archive}: not a zip archive, or damaged ({_sanitize(error)})"
        ) from None
    return ModelFiles(folder / names[0], folder / names[1] if index else None)


class _RefusedError(Exception):
    """Why the archive is not unpacked."""


class _BoundedReader(io.BufferedReader):
    """A file that refuses long reads: the list of members is as long as the file says."""

    def read(self, size: int | None = -1) -> bytes:
        """Read at most as many bytes as a list of members may have."""
        if size is not None and size > _MAX_LIST_BYTES:
            raise _RefusedError("its list of members is too long for a voice")
        return super().read(size)


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(archive.stat().st_mode):
            raise _RefusedError("not a file")  # a pipe would be waited for
        file = _BoundedReader(io.FileIO(archive))
    except OSError as error:
        raise _RefusedError(f"cannot be read: {describe_os_error(error)}") from None
    with file:
        yield file


def _select_members(archive: zipfile.ZipFile) -> tuple[zipfile.ZipInfo, list[zipfile.ZipInfo]]:
    """Check all members, and select the .pth and the .index; the second list may be empty."""
    members = archive.infolist()
    for member in members:
        _check_name(member.orig_filename)
        _check_kind(member)
    _check_different(members)
    _check_apart(members, archive.start_dir)
    files = [
        member for member in members if not member.is_dir() and not _is_junk(member.filename)
    ]
    models = [member for member in files if member.filename.lower().endswith(".pth")]
    indexes = [member for member in files if member.filename.lower().endswith(".index")]
    if len(indexes) > 1:  # RVC leaves two: the trained one is empty
        added = [
            member
            for member in indexes
            if PurePosixPath(member.filename).name.startswith("added_")
        ]
        indexes = added or indexes
    if not models:
        raise _RefusedError(f"holds no voice: there is no .pth file in it{_advise(files)}")
    for kind, found in ((".pth", models), (".index", indexes)):
        if len(found) > 1:
            names = ", ".join(_sanitize(member.filename) for member in found[:3])
            more = ", ..." if len(found) > 3 else ""
            raise _RefusedError(
                f"holds {len(found)} {kind} files ({names}{more}), not one voice"
            )
    _check_sizes(models + indexes)
    return models[0], indexes


def _advise(files: Sequence[zipfile.ZipInfo]) -> str:
    """Name the archive in the archive, if there is one."""
    for member in files:
        if member.filename.lower().endswith(_ARCHIVES):
            name = _sanitize(member.filename)
            return f"; it holds the archive {name}: unpack it, and give that one"
    return ""


def _check_name(name: str) -> None:
    is_absolute = re.match(r"[/\\]|[A-Za-z]:", name)
    leads_up = ".." in re.split(r"[/\\]", name)
    if not name or is_absolute or leads_up or "\0" in name:
        raise _RefusedError(
            f"has a member named {_sanitize(name)}, which does not stay in its folder: refused"
        )
    if "\\" in name:
        raise _RefusedError(
            f"has a member named {_sanitize(name)}, with backslashes: unpack it, and give the .pth"
        )


def _check_kind(member: zipfile.ZipInfo) -> None:
    name = _sanitize(member.filename)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _RefusedError(f"{name} in it is a link, not a file: refused")
    if member.flag_bits & _ENCRYPTED:
        raise _RefusedError(
            f"{name} in it is encrypted; unpack it with its password, and give the .pth"
        )
    if member.compress_type not in _METHODS:
        raise _RefusedError(
            f"{name} in it is packed in a way that is not supported; unpack it, and give the .pth"
        )


def _check_different(members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse names that are the same on some disks: they differ in case, or in their accents."""
    seen: set[str] = set()
    for member in members:
        name = unicodedata.normalize("NFC", member.filename.rstrip("/")).casefold()
        if name in seen:
            raise _RefusedError(f"has two members named {_sanitize(member.filename)}: refused")
        seen.add(name)


def _check_apart(members: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse members that overlap, since they unpack to more than the limits of each.

    end: Where the list of members begins.
    """
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = [member.header_offset for member in ordered] + [end]
    for member, (start, following) in zip(ordered, itertools.pairwise(starts), strict=True):
        # At least: the extra field of the header is not counted.
        size = _FIXED_HEADER + len(member.orig_filename) + member.compress_size
        if start + size > following:
            raise _RefusedError(
                f"{_sanitize(member.filename)} overlaps another member: refused"
            )


def _check_sizes(members: Sequence[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise _RefusedError(
            f"claims to unpack to {total / 1e9:.1f} GB, more than any voice has: refused"
        )
    for member in members:
        name = _sanitize(member.filename)
        size = member.file_size
        packed = member.compress_size
        if size > _BLOCK and size > _MAX_RATIO * packed:
            raise _RefusedError(
                f"{name} in it claims {size} bytes, packed in {packed}: weights don't shrink like "
                "that, refused"
            )


def _is_junk(name: str) -> bool:
    """Whether macOS has added a member."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("__MACOSX",) or path.name.startswith("._")


def _check_target(folder: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if not is_vacant(folder):
        raise UserError(f"{folder} exists already; name a new folder")
    check_disk_space(folder, sum(member.file_size for member in members), "unpacking")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> str:
    """Write a member into a folder, and return the name that it has there."""
    name = _to_file_name(PurePosixPath(member.filename).name)
    written = 0
    with archive.open(member) as source, (folder / name).open("xb") as target:
        while written <= member.file_size:
            block = source.read(_BLOCK)  # the last one verifies the checksum
            if not block:
                break
            written += target.write(block)
    if written != member.file_size:
        raise _RefusedError(
            f"{_sanitize(member.filename)} in it is not as long as it says: damaged"
        )
    return name


def _to_file_name(name: str) -> str:
    """Replace all that a system or terminal would interpret in a name; its extension stays."""
    stem, _, extension = name.rpartition(".")
    letters = [c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in stem]
    stem = "".join(letters)[:_MAX_NAME].strip(" .")
    while len(stem.encode()) > 2 * _MAX_NAME:
        stem = stem[:-1]
    if not stem or WINDOWS_RESERVED_NAME.fullmatch(stem):
        stem = f"_{stem}"
    return f"{stem}.{extension.lower()}"
