"""Arrays of numbers, and nothing else that a .npy can say."""

import io
import os
import time

import numpy as np
import pytest

from rvc_jax.errors import UserError
from rvc_jax.storage.arrays import parse_npy, read_npy


def save(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 768), np.float32),
        np.float64(5.0),
        np.arange(3, dtype=">i4"),
        np.array([True, False]),
    ],
)
def test_arrays_are_those_that_numpy_reads(tmp_path, array):
    file = tmp_path / "a.npy"
    file.write_bytes(save(array))
    for found in (read_npy(file), read_npy(file, mapped=True), parse_npy(save(array))):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.asarray(array).dtype and found.shape == np.shape(array)


def lie(shape: str, dtype: str = "'<f4'", order: str = "False") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}}}"
    header = text.encode().ljust(118)[: max(len(text), 118)] + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64


HOSTILE = {
    "empty": b"",
    "no header": b"\x93NUMPY",
    "other version": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
    "objects": save(np.array([{}], object), allow_pickle=True),
    "texts": save(np.array(["a"])),
    "records": save(np.zeros(2, [("a", "f4"), ("b", "i4")])),
    "complex": save(np.zeros(2, np.complex64)),
    "times": save(np.zeros(2, "M8[s]")),
    "more rows than bytes": lie("(1099511627776, 768)"),
    "fewer rows": lie("(2, 2)"),
    "product of zero": lie(f"({2**62}, {2**62})"),
    "negative": lie("(-16,)"),
    "text for a shape": lie("'16'"),
    "no type": lie("(16,)", "5"),
    "list of types": lie("(16,)", "[('a', ('<f4', (4,)))]"),
    "a call": lie("(16,)", "__import__('os').getcwd()"),
    "brackets": lie("(" * 5000 + ")" * 5000),
    "cut": save(np.arange(100.0))[:-1],
    "zip": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_array_of_numbers_is_one_line(tmp_path, name):
    file = tmp_path / "a.npy"
    file.write_bytes(HOSTILE[name])
    begin = time.process_time()
    for mapped in (False, True):
        with pytest.raises(UserError, match="not an array of NumPy, or damaged") as caught:
            read_npy(file, mapped)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    with pytest.raises(ValueError):
        parse_npy(HOSTILE[name])
    assert time.process_time() - begin < 1


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(UserError, match="a named pipe"):
        read_npy(tmp_path / "pipe.npy")
    with pytest.raises(FileNotFoundError):
        read_npy(tmp_path / "missing.npy")
