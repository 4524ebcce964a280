"""Voices in zip archives, as they are shared: one .pth, perhaps an .index beside it, and whatever
else was packed.

An archive is somebody else's word. Its list of members is checked before anything is unpacked, only
the two files that are wanted are, and their real bytes are counted while they are.
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

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.files import (
    WINDOWS_RESERVED_NAME,
    atomic_folder,
    check_disk_space,
    is_vacant,
)

MOST_BYTES = 4 << 30
"""Of a voice, unpacked; those of RVC have a few hundred megabytes at most."""

_MOST_OF_LIST = 1 << 20
"""Bytes of the list of members, which is read in one go: some ten thousand names."""

_MOST_RATIO = 100
"""Of unpacked to packed bytes; weights are noise, which packs by a few percent."""

_BLOCK = 1 << 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA takes memory by the file's word
_FIXED_HEADER = 30
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".xz")
_LONGEST_NAME = 100
_shown = functools.partial(sanitize, limit=_LONGEST_NAME)


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """The files of an unpacked voice."""

    pth: Path
    index: Path | None


def extract_model(archive: Path, folder: Path) -> ModelFiles:
    """Unpack the voice in a zip archive.

    Args:
      archive: holds one .pth and at most one .index, or one "added_" among several, in whatever
          sub-folders.
      folder: is made, with these two files in it, whole or not at all; it may exist if it is empty.

    Raises:
      UserError: `archive` cannot be read, is damaged, holds no voice or several, or means harm:
        names that lead out of the folder, links, members that are encrypted, lie over each other or
        unpack to far more than they should. The disk has too little room, or `folder` is in use.
    """
    archive = Path(archive)
    folder = Path(folder)
    try:
        with _opened(archive) as file, zipfile.ZipFile(file) as members:
            pth, index = _voice(members)
            _check_room(folder, [pth, *index])
            with atomic_folder(folder) as unfinished:
                names = [_unpack(members, member, unfinished) for member in (pth, *index)]
    except UserError:
        raise
    except _Refused as reason:
        raise UserError(f"{archive}: {reason}") from None
    except OSError as error:
        raise UserError(
            f"{archive}: cannot be unpacked into {folder}: {error.strerror or error}"
        ) from None
    except Exception as error:  # a damaged archive can raise anything
        raise UserError(f"{archive}: not a zip archive, or damaged ({_shown(error)})") from None
    return ModelFiles(folder / names[0], folder / names[1] if index else None)


class _Refused(Exception):
    """Why the archive is not unpacked."""


class _Reader(io.BufferedReader):
    """A file that is read in small pieces only: the list of members is as long as the file says."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MOST_OF_LIST:
            raise _Refused("its list of members is too long for a voice")
        return super().read(size)


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(archive.stat().st_mode):
            raise _Refused("not a file")  # a pipe would be waited for
        file = _Reader(io.FileIO(archive))
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}") from None
    with file:
        yield file


def _voice(archive: zipfile.ZipFile) -> tuple[zipfile.ZipInfo, list[zipfile.ZipInfo]]:
    """The .pth and the .index, or none, of an archive whose members are all in order."""
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
        indexes = [
            member
            for member in indexes
            if PurePosixPath(member.filename).name.startswith("added_")
        ] or indexes
    if not models:
        nested = [
            member.filename for member in files if member.filename.lower().endswith(_ARCHIVES)
        ]
        what = (
            f"; it holds the archive {_shown(nested[0])}: unpack it, and give that one"
            if nested
            else ""
        )
        raise _Refused(f"holds no voice: there is no .pth file in it{what}")
    for kind, found in ((".pth", models), (".index", indexes)):
        if len(found) > 1:
            names = ", ".join(_shown(member.filename) for member in found[:3])
            more = ", ..." if len(found) > 3 else ""
            raise _Refused(f"holds {len(found)} {kind} files ({names}{more}), not one voice")
    _check_sizes(models + indexes)
    return models[0], indexes


def _check_name(name: str) -> None:
    if (
        re.match(r"[/\\]|[A-Za-z]:", name)
        or ".." in re.split(r"[/\\]", name)
        or "\0" in name
        or not name
    ):
        raise _Refused(
            f"has a member named {_shown(name)}, which does not stay in its folder: refused"
        )
    if "\\" in name:
        raise _Refused(
            f"has a member named {_shown(name)}, with backslashes: unpack it, and give the .pth"
        )


def _check_kind(member: zipfile.ZipInfo) -> None:
    name = _shown(member.filename)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _Refused(f"{name} in it is a link, not a file: refused")
    if member.flag_bits & _ENCRYPTED:
        raise _Refused(
            f"{name} in it is encrypted; unpack it with its password, and give the .pth"
        )
    if member.compress_type not in _METHODS:
        raise _Refused(
            f"{name} in it is packed in a way that is not supported; unpack it, and give the .pth"
        )


def _check_different(members: Sequence[zipfile.ZipInfo]) -> None:
    """Many a disk takes names for the same that differ in case or in how accents are spelt."""
    seen: set[str] = set()
    for member in members:
        name = unicodedata.normalize("NFC", member.filename.rstrip("/")).casefold()
        if name in seen:
            raise _Refused(f"has two members named {_shown(member.filename)}: refused")
        seen.add(name)


def _check_apart(members: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Members that share bytes unpack to more than any limit of theirs; `end` is where the list of
    them begins."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = [member.header_offset for member in ordered] + [end]
    for member, (start, following) in zip(ordered, itertools.pairwise(starts), strict=True):
        if start + _FIXED_HEADER + len(member.orig_filename) + member.compress_size > following:
            raise _Refused(f"{_shown(member.filename)} lies over another member: refused")


def _check_sizes(members: Sequence[zipfile.ZipInfo]) -> None:
    if (size := sum(member.file_size for member in members)) > MOST_BYTES:
        raise _Refused(
            f"claims to unpack to {size / 1e9:.1f} GB, more than any voice has: refused"
        )
    for member in members:
        name = _shown(member.filename)
        size = member.file_size
        packed = member.compress_size
        if size > _BLOCK and size > _MOST_RATIO * packed:
            raise _Refused(
                f"{name} in it claims {size} bytes, packed in {packed}: no weights are like that, refused"
            )


def _is_junk(name: str) -> bool:
    """What macOS adds."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("__MACOSX",) or path.name.startswith("._")


def _check_room(folder: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if not is_vacant(folder):
        raise UserError(f"{folder} exists already; name a new folder")
    check_disk_space(folder, sum(member.file_size for member in members), "unpacking")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> str:
    """Write a member into a folder; returns the name that it has there."""
    name = _file_name(PurePosixPath(member.filename).name)
    written = 0
    with archive.open(member) as source, (folder / name).open("xb") as target:
        while written <= member.file_size and (
            block := source.read(_BLOCK)
        ):  # its end verifies the checksum
            written += target.write(block)
    if written != member.file_size:
        raise _Refused(f"{_shown(member.filename)} in it is not as long as it says: damaged")
    return name


def _file_name(name: str) -> str:
    """The name with nothing in it that any system or terminal takes for something else; its ending
    stays."""
    stem, _, ending = name.rpartition(".")
    stem = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in stem)[
        :_LONGEST_NAME
    ].strip(" .")
    while len(stem.encode()) > 2 * _LONGEST_NAME:
        stem = stem[:-1]
    return f"{'_' if not stem or WINDOWS_RESERVED_NAME.fullmatch(stem) else ''}{stem}.{ending.lower()}"
