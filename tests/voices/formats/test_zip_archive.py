"""Voices in zip archives: those that people share are unpacked, those that mean harm leave nothing
behind."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import zip_archive
from rvc_jax.voices.formats.zip_archive import ModelFiles, extract_model
from rvc_jax.weights import torch_file

PTH = b"weights" * 1000
INDEX = b"index" * 500


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "voice.zip"


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def refusal(archive: Path, content: bytes) -> str:
    """Why the archive is refused: one line that names it, and nothing is left of it."""
    archive.write_bytes(content)
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        extract_model(archive, archive.parent / "out")
    text = str(caught.value)
    assert (
        text.startswith(f"{archive}: ")
        and text.isprintable()
        and len(text) < len(str(archive)) + 400
    )
    assert sorted(archive.parent.rglob("*")) == before
    return text.removeprefix(f"{archive}: ")


# What people share


@pytest.mark.parametrize(
    ("pth", "index"),
    [
        ("Alice.pth", "added_IVF256_Flat_nprobe_1_Alice_v2.index"),
        ("Alice.pth", None),
        ("Alice/weights/Alice.PTH", "Alice/logs/added.Index"),
        ("日本 語 (v2) [40k].pth", "é.index"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_voice_is_unpacked_among_what_else_there_is(
    archive: Path, tmp_path: Path, pth: str, index: str | None, method: int
) -> None:
    members = {
        "readme.txt": b"hello",
        "__MACOSX/": b"",
        f"__MACOSX/._{pth.rpartition('/')[2]}": b"junk",
        ".DS_Store": b"junk",
        "pictures/": b"",
        "pictures/cover.png": b"png",
        "._other.pth": b"junk",
        pth: PTH,
    }
    archive.write_bytes(packed(members | ({index: INDEX} if index else {}), method))
    files = extract_model(archive, tmp_path / "out")
    assert files.pth.name == f"{Path(pth).stem}.pth" and files.pth.read_bytes() == PTH
    assert (files.index and files.index.read_bytes()) == (INDEX if index else None)
    assert sorted((tmp_path / "out").iterdir()) == sorted({files.pth, files.index or files.pth})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "voice.zip"]


def test_a_model_in_it_can_be_read(archive: Path, tmp_path: Path) -> None:
    torch_file.write(tmp_path / "a.pth", {"weight": np.arange(6.0)})
    archive.write_bytes(packed({"a.pth": (tmp_path / "a.pth").read_bytes()}))
    np.testing.assert_array_equal(
        torch_file.read(extract_model(archive, tmp_path / "out").pth)["weight"], np.arange(6)
    )


def test_of_the_two_indexes_that_rvc_leaves_the_one_with_the_vectors_is_taken(
    archive: Path, tmp_path: Path
) -> None:
    archive.write_bytes(
        packed({"a.pth": PTH, "trained_IVF1.index": b"empty", "added_IVF1.index": INDEX})
    )
    files = extract_model(archive, tmp_path / "out")
    assert files == ModelFiles(
        tmp_path / "out" / "a.pth", tmp_path / "out" / "added_IVF1.index"
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("CON.pth", "_CON.pth"),
        ("lpt1.v2.pth", "_lpt1.v2.pth"),
        (".pth", "_.pth"),
        ("...pth", "_.pth"),
        ("a\x1b[31m\u202e\n.pth", "a_[31m__.pth"),
        (' a<b>"c|d?e* .pth', "a_b__c_d_e_.pth"),
        ("-rf.pth", "-rf.pth"),
        ("x" * 250 + ".pth", "x" * 191 + "-086d4a1c.pth"),
        ("声" * 80 + ".pth", "声" * 63 + "-06dbcc29.pth"),
    ],
)
def test_strange_names_become_plain_ones(
    archive: Path, tmp_path: Path, name: str, written: str
) -> None:
    archive.write_bytes(packed({name: PTH}))
    assert extract_model(archive, tmp_path / "out").pth == tmp_path / "out" / written
    assert [path.name for path in (tmp_path / "out").iterdir()] == [written]


def test_the_folder_may_be_empty_and_is_never_replaced(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(packed({"a.pth": PTH}))
    (tmp_path / "out").mkdir()
    extract_model(archive, tmp_path / "out")
    for taken in (tmp_path / "out", archive):
        with pytest.raises(UserError, match="exists already"):
            extract_model(archive, taken)
    assert (tmp_path / "out" / "a.pth").read_bytes() == PTH
    extract_model(archive, tmp_path / "new" / "deep")


def test_other_files_are_not_archives(archive: Path, tmp_path: Path) -> None:
    for content in (b"", b"PK", b"PK\5\6" + bytes(18), b"Rar!\x1a\7\0" + bytes(99), PTH):
        refusal(archive, content)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        extract_model(tmp_path / "gone.zip", tmp_path / "out")
    with pytest.raises(UserError, match="not a file"):
        extract_model(tmp_path, tmp_path / "out")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.zip")
        with pytest.raises(UserError, match="not a file"):
            extract_model(tmp_path / "pipe.zip", tmp_path / "out")


# What is refused


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "holds no voice: there is no .pth file in it"),
        ({"readme.txt": b"hello"}, "holds no voice"),
        ({"__MACOSX/._a.pth": PTH}, "holds no voice"),
        ({"a.pth/": b""}, "holds no voice"),
        (
            {"inner.zip": packed({"deep.zip": packed({"a.pth": PTH})})},
            "it holds the archive deep.zip: unpack it, and give that one",
        ),
        ({"a.pth.7z": PTH}, "it holds the archive a.pth.7z"),
    ],
)
def test_what_is_not_one_voice(archive: Path, members: dict[str, bytes], reason: str) -> None:
    assert re.search(reason, refusal(archive, packed(members)))


@pytest.mark.parametrize(
    "name",
    [
        "../a.pth",
        "b/../../a.pth",
        "..",
        "b/..",
        "/a.pth",
        "/etc/passwd",
        "//server/a.pth",
        "C:\\a.pth",
        "C:a.pth",
        "c:/a.pth",
        "..\\a.pth",
        "b\\..\\..\\a.pth",
        "\\\\server\\a.pth",
        "\\a.pth",
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a voice", "as the voice"])
def test_names_that_lead_out(archive: Path, name: str, beside: bool) -> None:
    placeholder = "#" * len(name)
    content = packed({placeholder: PTH} | ({"voice.pth": PTH} if beside else {}))
    reason = refusal(archive, content.replace(placeholder.encode(), name.encode()))
    assert "has a member named " in reason
    assert not (archive.parent.parent / "a.pth").exists()


def test_a_name_with_a_zero_byte(archive: Path) -> None:
    content = packed({"voice.pth#.txt": PTH}).replace(b"voice.pth#.txt", b"voice.pth\0.txt")
    assert "has a member named voice.pth?.txt" in refusal(archive, content)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
)
@pytest.mark.parametrize("name", ["a.pth", "folder"])
def test_links_and_devices(archive: Path, kind: int, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        member = zipfile.ZipInfo(name)
        member.create_system = 3
        member.external_attr = (kind | 0o777) << 16
        file.writestr(member, "/etc/passwd")
        file.writestr("folder/a.pth" if name == "folder" else "b.index", PTH)
    assert f"{name} in it is a link, not a file" in refusal(archive, buffer.getvalue())


def field(content: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """An entry of the list of members with a field replaced; the fields are in front of the name,
    at 46."""
    place = content.rindex(b"PK\1\2", 0, content.rindex(name)) + offset
    return content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize("flag", [0x1, 0x41, 0x2001])
def test_encrypted_members(archive: Path, flag: int) -> None:
    content = field(packed({"a.pth": PTH}), b"a.pth", 8, struct.pack("<H", flag))
    assert "a.pth in it is encrypted" in refusal(archive, content)


@pytest.mark.parametrize("method", [1, 6, 9, 95, 99, 65535])
def test_other_ways_of_packing(archive: Path, method: int) -> None:
    content = field(packed({"a.pth": PTH}), b"a.pth", 10, struct.pack("<H", method))
    assert "packed in a way that is not supported" in refusal(archive, content)


def test_a_bomb_is_refused_before_it_is_unpacked(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = packed({"a.pth": bytes(50_000_000)})
    assert len(bomb) < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert "a.pth in it claims 50000000 bytes, packed in " in refusal(archive, bomb)


def test_too_much_for_any_voice(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = field(packed({"a.pth": PTH}), b"a.pth", 20, struct.pack("<II", 2**32 - 2, 2**32 - 2))
    assert refusal(archive, huge)
    monkeypatch.setattr(zip_archive, "MAX_BYTES", len(PTH) + len(INDEX) - 1)
    assert "more than any voice has" in refusal(
        archive, packed({"a.pth": PTH, "a.index": INDEX})
    )
    monkeypatch.setattr(zip_archive, "MAX_BYTES", len(PTH) + len(INDEX))
    extract_model(archive, archive.parent / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [0, 1, len(PTH) - 1, len(PTH) + 1, 10 * len(PTH)])
def test_false_sizes_are_refused(archive: Path, method: int, size: int) -> None:
    """The bytes that come out are counted, whatever the headers say of them."""
    content = packed({"a.pth": PTH}, method)
    refusal(archive, field(content, b"a.pth", 24, struct.pack("<I", size)))


def test_members_that_share_their_bytes(archive: Path) -> None:
    """As in zip bombs of the kind of Fifield's: several entries in the list for the same data."""
    content = packed({"a.pth": PTH, "b.index": INDEX})
    second = content.index(b"PK\3\4", 4)
    shared = field(content, b"b.index", 42, struct.pack("<I", 0))
    assert "overlaps another member" in refusal(archive, shared)
    assert "overlaps another member" in refusal(
        archive, field(content, b"a.pth", 20, struct.pack("<I", second))
    )


@pytest.mark.parametrize(
    "names",
    [("a.pth", "a.pth"), ("a.pth", "A.PTH"), ("é.pth", "e\u0301.pth"), ("ß.txt", "SS.txt")],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_the_same(archive: Path, names: tuple[str, str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number, name in enumerate(("voice.pth", *names)):
            file.writestr(name, PTH + bytes(number))
    assert "has two members named " in refusal(archive, buffer.getvalue())


def test_a_list_of_members_without_end(archive: Path) -> None:
    content = packed({f"{i:0200}.txt": b"" for i in range(6000)})
    assert "list of members is too long" in refusal(archive, content)


def test_a_name_that_is_another_one_at_its_place(archive: Path) -> None:
    content = packed({"a.pth": PTH})
    assert "damaged" in refusal(archive, content.replace(b"a.pth", b"b.pth", 1))


@pytest.mark.parametrize("place", [40, 60, 100, -60, -30, -5])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_cut_short(archive: Path, place: int, method: int) -> None:
    refusal(archive, packed({"a.pth": PTH, "a.index": INDEX}, method)[:place])


def test_wrong_checksums(archive: Path) -> None:
    content = packed({"a.pth": PTH}, zipfile.ZIP_STORED)
    assert "Bad CRC" in refusal(archive, content.replace(b"weights", b"weighty", 1))
    assert "Bad CRC" in refusal(archive, field(content, b"a.pth", 16, bytes(4)))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_bytes_are_unpacked_or_refused(archive: Path, data: st.DataObject) -> None:
    content = bytearray(packed({"folder/a.pth": PTH[:99], "a.index": INDEX[:99]}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content)
    out = archive.parent / "out"
    try:
        files = extract_model(archive, out)
        assert {files.pth, files.index} - {None} == set(out.iterdir())
        assert files.pth.read_bytes() == PTH[:99]
    except UserError as error:
        assert str(error).isprintable() and not out.exists()
    shutil.rmtree(out, ignore_errors=True)
    assert [path.name for path in archive.parent.iterdir()] == ["voice.zip"]


# What the system refuses


def test_a_disk_without_room(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write_bytes(packed({"a.pth": PTH}))
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=64_000_000))
        with pytest.raises(UserError, match=r"64\.0 MB free, unpacking needs 64\.\d MB"):
            extract_model(archive, tmp_path / "out")
    fails_once(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(UserError, match="cannot be unpacked into .*: No space left on device"):
        extract_model(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["voice.zip"]


def test_an_interruption_leaves_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write_bytes(packed({"a.pth": PTH}))
    fails_once(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        extract_model(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["voice.zip"]


def fails_once(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    read: Callable[..., bytes] = zipfile.ZipExtFile.read

    def reading(self: zipfile.ZipExtFile, size: int) -> bytes:
        if self.tell():
            raise error
        return read(self, 100)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", reading)


# Names and layouts of other systems


def raw_names(members: dict[bytes, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive whose names are these bytes, without the flag for UTF-8."""
    places = {b"%0*d" % (len(name), 10**8 + i): name for i, name in enumerate(members)}
    content = packed({place.decode(): members[name] for place, name in places.items()}, method)
    for place, name in places.items():
        assert len(place) == len(name)
        content = content.replace(place, name)
    return content


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("表示の声ソ.pth", "cp932"),
        ("我的声音模型.pth", "gbk"),
        ("Zoé über.pth", "cp437"),
        ("日本語の声.pth", "utf-8"),
    ],
)
def test_names_in_the_letters_of_other_systems(
    archive: Path, tmp_path: Path, name: str, encoding: str
) -> None:
    archive.write_bytes(raw_names({name.encode(encoding): PTH}))
    files = extract_model(archive, tmp_path / "out")
    assert files.pth.read_bytes() == PTH
    assert files.pth.name == name or encoding == "gbk"


def test_backslashes_are_separators(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(raw_names({rb"folder\sub\ada.pth": PTH, rb"folder\a.index": INDEX}))
    files = extract_model(archive, tmp_path / "out")
    assert (files.pth.name, files.index and files.index.name) == ("ada.pth", "a.index")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_that_open(archive: Path, tmp_path: Path, method: int) -> None:
    archive.write_bytes(packed({"a.pth": PTH, "a.index": INDEX}, method))
    assert extract_model(archive, tmp_path / "out").pth.read_bytes() == PTH


def test_a_dictionary_that_takes_all_memory(archive: Path) -> None:
    content = bytearray(packed({"a.pth": PTH}, zipfile.ZIP_LZMA))
    content[30 + 5 + 5 : 30 + 5 + 9] = b"\xff\xff\xff\xf0"
    assert "MB of memory: refused" in refusal(archive, bytes(content))


def test_what_is_there_twice_or_empty_does_not_matter(archive: Path, tmp_path: Path) -> None:
    members = {
        "a.pth": PTH,
        "b.pth": b"",
        "G_9.pth": PTH,
        "D_9.pth": PTH,
        "a.index": INDEX,
        "logs/a.index": INDEX,
        "trained_IVF9_a.index": b"",
    }
    archive.write_bytes(packed(members))
    files = extract_model(archive, tmp_path / "out")
    assert files.pth.name == "a.pth" and files.index is not None and files.notes == ()


def test_one_of_several_voices(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(packed({"x/a.pth": PTH, "x/voice.pth": PTH[:-1], "a.index": INDEX}))
    files = extract_model(archive, tmp_path / "out")
    assert files.pth.name == "voice.pth" and files.index is None
    assert "took voice.pth of 2 voices there (not a.pth)" in files.notes[0]
    named = extract_model(archive, tmp_path / "named", member="x\\A.pth")
    assert named.pth.name == "a.pth" and named.index is not None
    with pytest.raises(UserError, match="--member z is not there: there are x/a.pth, x/voice"):
        extract_model(archive, tmp_path / "none", member="z")


def test_an_archive_in_an_archive(archive: Path, tmp_path: Path) -> None:
    inner = packed({"ada/ada.pth": PTH, "ada/ada.index": INDEX})
    archive.write_bytes(packed({"readme.txt": b"", "ada.zip": inner}))
    files = extract_model(archive, tmp_path / "out")
    assert files == ModelFiles(tmp_path / "out/ada.pth", tmp_path / "out/ada.index")
