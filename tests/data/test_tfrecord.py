"""TFRecord files are read as TensorFlow writes them, and damage is found wherever it is."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rvc_jax.data.tfds_import import import_tfds
from rvc_jax.data.tfrecord import RecordFile
from rvc_jax.errors import UserError

RECORDS = [b"", b"a", bytes(range(256)) * 300, b"the end"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes that TensorFlow writes for RECORDS."""
    import_tfds()
    import tensorflow

    path = tmp_path_factory.mktemp("records") / "records"
    with tensorflow.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path.read_bytes()


@pytest.mark.parametrize("keep_open", [True, False])
def test_what_tensorflow_writes_is_read_in_any_order(
    written: bytes, tmp_path: Path, keep_open: bool
) -> None:
    path = tmp_path / "records"
    path.write_bytes(written)
    file = RecordFile(path, keep_open)
    found = list(file.scan())
    assert [record for _, record in found] == RECORDS
    for place, record in reversed(found):
        assert file.read(place) == record
    file.close()


def test_every_flipped_byte_and_every_end_within_a_record_is_found(tmp_path: Path) -> None:
    checksums = b"\x29\x03\x98\x07\xd8\xea\x82\xa2"  # of zeros; see below
    record = struct.pack("<Q", 0) + checksums
    path = tmp_path / "records"
    path.write_bytes(record)
    assert [content for _, content in RecordFile(path).scan()] == [b""]
    for position in range(len(record)):
        damaged = bytearray(record)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            list(RecordFile(path).scan())
        if position:
            path.write_bytes(record[:position])
            with pytest.raises(ValueError, match="ends within"):
                list(RecordFile(path).scan())


def test_damage_within_a_record_is_found_when_it_is_read_alone(
    written: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "records"
    path.write_bytes(written)
    file = RecordFile(path)
    place = list(file.scan())[2][0]
    damaged = bytearray(written)
    damaged[place.offset + place.size // 2] ^= 16
    path.write_bytes(damaged)  # into the same file
    with pytest.raises(ValueError, match="damaged"):
        file.read(place)


def test_an_absurd_length_takes_no_memory(tmp_path: Path) -> None:
    google_crc32c = pytest.importorskip("google_crc32c")
    length = struct.pack("<Q", 1 << 40)
    checksum = google_crc32c.value(length)
    masked = (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    (tmp_path / "records").write_bytes(length + struct.pack("<I", masked) + bytes(100))
    with pytest.raises(ValueError, match="record of 1099511627776 bytes"):
        list(RecordFile(tmp_path / "records").scan())


def test_a_file_that_is_held_open_is_read_on_after_another_has_taken_its_name(
    written: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "records"
    path.write_bytes(written)
    held, reopened = RecordFile(path), RecordFile(path, keep_open=False)
    place = list(held.scan())[3][0]
    (tmp_path / "new").write_bytes(bytes(len(written)))
    (tmp_path / "new").rename(path)
    assert held.read(place) == RECORDS[3]
    with pytest.raises(UserError, match="was replaced while it was read"):
        reopened.read(place)
