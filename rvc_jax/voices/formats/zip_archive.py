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
import struct
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, NamedTuple

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.file_names import to_file_name
from rvc_jax.storage.files import atomic_folder, check_disk_space, is_vacant
from rvc_jax.storage.plain_files import check_plain
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.voices.choice import (
    FEATURES,
    Candidate,
    choose_index,
    choose_voice,
    is_trained_alone,
    list_names,
)
from rvc_jax.voices.names import VOICE_EXTENSIONS

MAX_BYTES = 4 << 30
"""Size of an unpacked voice; RVC's have a few hundred megabytes at most."""

_MAX_LIST_BYTES = 1 << 20
"""Size of the list of members, which is read at once: some ten thousand names."""

_MAX_RATIO = 100
"""Of unpacked to packed bytes. Weights are noise, which shrinks by a few percent."""

_BLOCK = 1 << 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_ENCODINGS = ("utf-8", "cp932", "gbk", "cp949", "cp437")
_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
    getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED),  # Python 3.14
)
_FIXED_HEADER = 30
_NAME_LENGTHS = 26
_LZMA_SIZES = 5
"""Bytes of a member packed by LZMA before the size of its dictionary: version, length, settings."""

_MAX_DICTIONARY = 256 << 20
_MAX_NESTED = 1
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".xz")
_sanitize = functools.partial(sanitize, limit=100)


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """The files of an unpacked voice."""

    pth: Path
    index: Path | None
    notes: tuple[str, ...] = ()
    """What was chosen among several."""


def extract_model(archive: Path, folder: Path, member: str | None = None) -> ModelFiles:
    """Unpack the voice in a zip archive.

    Args:
      archive: Holds a voice's file, perhaps with its index, in any subfolders; or an archive that
        does. Among several, `voices.choice` chooses.
      folder: Folder to make with these two files, whole or not at all; it may exist if it is empty.
      member: Name of the voice's file in the archive, instead of the choice.

    Raises:
      UserError: The archive can't be read, is damaged, holds no voice, or is malicious: its names
        lead out of the folder, or it has links or members that are encrypted, overlap or unpack to
        far more than they should. Or the disk has too little room, or `folder` is in use.
    """
    archive = Path(archive)
    folder = Path(folder)
    try:
        return _extract(archive, folder, member, archive.stem, _MAX_NESTED)
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


def _extract(
    archive: Path, folder: Path, wanted: str | None, name: str, nested: int
) -> ModelFiles:
    """Unpack a voice.

    Args:
      name: Name of the archive, which the voice may have.
      nested: How many archives may be in one another.
    """
    with _open(archive) as file, zipfile.ZipFile(file) as members:
        files = _list_files(members)
        voices = [each for each in files if each.extension in VOICE_EXTENSIONS]
        if not voices and nested:
            inner = [each for each in files if each.extension == ".zip"]
            if len(inner) == 1:
                return _extract_inner(members, inner[0], folder, wanted, nested)
        if not voices:
            raise _RefusedError(f"holds no voice: there is no .pth file in it{_advise(files)}")
        chosen, index, notes = _select(files, voices, wanted, name)
        parts = [chosen] if index is None else [chosen, index]
        _check_sizes([each.info for each in parts])
        _check_target(folder, [each.info for each in parts])
        with atomic_folder(folder) as unfinished:
            names = [_unpack(members, each, unfinished) for each in parts]
    return ModelFiles(
        folder / names[0], folder / names[1] if index is not None else None, notes
    )


def _extract_inner(
    members: zipfile.ZipFile, inner: _Member, folder: Path, wanted: str | None, nested: int
) -> ModelFiles:
    """Unpack the voice of an archive that is in the archive."""
    _check_sizes([inner.info])
    with temporary_folder() as scratch:
        check_disk_space(Path(scratch), inner.info.file_size, "unpacking")
        unpacked = Path(scratch) / _unpack(members, inner, Path(scratch))
        return _extract(unpacked, folder, wanted, inner.path.stem, nested - 1)


def _select(
    files: Sequence[_Member], voices: Sequence[_Member], wanted: str | None, name: str
) -> tuple[_Member, _Member | None, tuple[str, ...]]:
    """Choose the voice and its index. Returns both, and what there is to say about it."""
    by_path: dict[PurePath, _Member] = {each.path: each for each in files}
    if wanted is None:
        full = [each for each in voices if each.info.file_size] or voices
        candidates = [Candidate(each.path, each.changed) for each in full]
        chosen, note = choose_voice(candidates, name)
    else:
        chosen = Candidate(find_member([each.path for each in voices], wanted), 0.0)
        note = ""
    indexes = [each for each in files if each.extension == ".index"]
    if not any(not is_trained_alone(each.path.name) for each in indexes):
        indexes += [each for each in files if each.path.name.lower() == FEATURES]
    different = {(each.info.CRC, each.info.file_size): each for each in reversed(indexes)}
    index, reason = choose_index(
        chosen.path,
        [each.path for each in voices],
        [Candidate(each.path, each.changed) for each in different.values()],
    )
    notes = tuple(filter(None, (note, reason)))
    return by_path[chosen.path], None if index is None else by_path[index.path], notes


def find_member(paths: Sequence[PurePath], wanted: str) -> PurePath:
    """Find the file that the user names: by its path, its name, or its name without extension.

    Raises UserError if there is none.
    """
    spelled = unicodedata.normalize("NFC", wanted.replace("\\", "/")).casefold()
    for path in paths:
        places = (path.as_posix(), path.name, path.stem)
        if spelled in [unicodedata.normalize("NFC", place).casefold() for place in places]:
            return path
    names = list_names([path.as_posix() for path in paths])
    raise UserError(f"--member {_sanitize(wanted)} is not there: there are {names}")


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
        check_plain(archive)
        file = _BoundedReader(io.FileIO(archive))
    except OSError as error:
        raise _RefusedError(f"cannot be read: {describe_os_error(error)}") from None
    with file:
        yield file


class _Member(NamedTuple):
    """A file of an archive."""

    path: PurePosixPath
    """Its name there, in the right letters, with / as separator."""
    info: zipfile.ZipInfo

    @property
    def extension(self) -> str:
        """What follows the last point of the name, in lower case, with the point."""
        return f".{self.path.name.rpartition('.')[2].lower()}"

    @property
    def stem(self) -> str:
        """The name without the extension."""
        return self.path.name.rpartition(".")[0]

    @property
    def changed(self) -> float:
        """When it was last changed, on a scale of its own."""
        year, month, day, hour, minute, second = self.info.date_time
        days = (year * 12 + month) * 31 + day
        return float(((days * 24 + hour) * 60 + minute) * 60 + second)


def _list_files(archive: zipfile.ZipFile) -> list[_Member]:
    """Check all members, and list those that are files."""
    members = archive.infolist()
    names = [_decode_name(member) for member in members]
    for name, member in zip(names, members, strict=True):
        _check_name(name)
        _check_kind(name, member)
    _check_apart(members, archive.start_dir)
    unique = _drop_repeated(names, members)
    return [
        _Member(PurePosixPath(name), member)
        for name, member in unique.items()
        if not name.endswith("/") and not _is_junk(name)
    ]


def _advise(files: Sequence[_Member]) -> str:
    """Name the archive in the archive, if there is one."""
    for each in files:
        if each.path.name.lower().endswith(_ARCHIVES):
            name = _sanitize(each.path)
            return f"; it holds the archive {name}: unpack it, and give that one"
    return ""


def _decode_name(member: zipfile.ZipInfo) -> str:
    """Decode the name of a member, with / as the separator.

    Without the flag for UTF-8 the letters are those of the system that packed it: often Japanese
    or Chinese ones, in which a backslash may be half a letter. Other bytes have those of
    the old standard, code page 437.
    """
    name = member.orig_filename
    if not member.flag_bits & _UTF8:
        raw = name.encode("cp437", "replace")
        for encoding in _ENCODINGS:
            with contextlib.suppress(UnicodeDecodeError):
                name = raw.decode(encoding)
                break
    return name.replace("\\", "/")


def _check_name(name: str) -> None:
    is_absolute = re.match(r"/|[A-Za-z]:", name)
    leads_up = ".." in name.split("/")
    if not name or is_absolute or leads_up or "\0" in name:
        raise _RefusedError(
            f"has a member named {_sanitize(name)}, which does not stay in its folder: refused"
        )


def _check_kind(name: str, member: zipfile.ZipInfo) -> None:
    name = _sanitize(name)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _RefusedError(f"{name} in it is a link, not a file: refused")
    if member.flag_bits & _ENCRYPTED:
        raise _RefusedError(
            f"{name} in it is encrypted; unpack it with its password, and give the .pth"
        )
    if member.compress_type not in _METHODS:
        raise _RefusedError(
            f"{name} in it is packed in a way that is not supported (method "
            f"{member.compress_type}); unpack it, and give the .pth"
        )


def _drop_repeated(
    names: Sequence[str], members: Sequence[zipfile.ZipInfo]
) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, each once.

    Raises _RefusedError for two of different content whose names are the same on some disks: they
    differ in case at most, or in their accents.
    """
    found: dict[str, tuple[str, zipfile.ZipInfo]] = {}
    for name, member in zip(names, members, strict=True):
        spelled = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        other = found.get(spelled)
        if other is None:
            found[spelled] = (name, member)
        elif (other[1].CRC, other[1].file_size) != (member.CRC, member.file_size):
            raise _RefusedError(f"has two members named {_sanitize(name)}: refused")
    return dict(found.values())


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
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"


def _check_target(folder: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if not is_vacant(folder):
        raise UserError(f"{folder} exists already; name a new folder")
    check_disk_space(folder, sum(member.file_size for member in members), "unpacking")


def _unpack(archive: zipfile.ZipFile, member: _Member, folder: Path) -> str:
    """Write a member into a folder, and return the name that it has there."""
    name = to_file_name(member.stem, member.extension, "_")
    if (folder / name).exists():
        name = to_file_name(f"{member.stem}_2", member.extension)
    info = member.info
    if info.compress_type == zipfile.ZIP_LZMA:
        _check_dictionary(archive, info)
    written = 0
    with archive.open(info) as source, (folder / name).open("xb") as target:
        while written <= info.file_size:
            block = source.read(_BLOCK)  # the last one verifies the checksum
            if not block:
                break
            written += target.write(block)
    if written != info.file_size:
        raise _RefusedError(
            f"{_sanitize(member.path)} in it is not as long as it says: damaged"
        )
    return name


def _check_dictionary(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Refuse a member packed by LZMA that asks for more memory than any program takes for it."""
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset + _NAME_LENGTHS)
    lengths = struct.unpack("<HH", file.read(4))
    file.seek(info.header_offset + _FIXED_HEADER + sum(lengths) + _LZMA_SIZES)
    (size,) = struct.unpack("<I", file.read(4))
    if size > _MAX_DICTIONARY:
        raise _RefusedError(
            f"a member is packed in a way that takes {size / 1e6:.0f} MB of memory: refused"
        )
