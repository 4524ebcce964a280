"""Our reader and writer of safetensors against the original, and against files that are not what
they say."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rvc_jax.errors import UserError
from rvc_jax.weights.safetensors_file import metadata, read, write

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
TENSORS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from([*DTYPES, "bool"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
        )
    ),
    max_size=4,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def packed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(
    dtype: object = "F32", shape: object = (2,), begin: object = 0, end: object = 8
) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and text.isprintable()
    return text


def assert_same(result: dict, expected: dict) -> None:
    assert set(result) == set(expected)
    for name, array in expected.items():
        assert result[name].dtype == array.dtype and result[name].shape == array.shape
        assert result[name].tobytes() == array.tobytes()


# --- against the original ---


@quick
@given(tensors=TENSORS)
def test_we_read_what_the_original_writes(path: Path, tensors: dict) -> None:
    original = pytest.importorskip("safetensors.numpy")
    original.save_file(tensors, path, metadata={"format": "pt"})
    assert_same(read(path), tensors)


@settings(quick, max_examples=400)
@given(data=st.data())
def test_what_we_read_of_a_damaged_file_is_what_the_original_reads(
    path: Path, data: st.DataObject
) -> None:
    original = pytest.importorskip("safetensors.numpy")
    content = bytearray(
        original.save(
            {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int8)}
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(
            st.sampled_from(b'0123456789 {}[]",:-.eFIU\\') | st.integers(0, 255)
        )
    path.write_bytes(content)
    try:
        result = read(path)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert_same(result, original.load(bytes(content)))


def test_torch_and_bfloat16(path: Path) -> None:
    torch = pytest.importorskip("torch")
    original = pytest.importorskip("safetensors.torch")
    values = torch.tensor([[1.0, -2.5], [3e38, 1e-40]])
    original.save_file({"half": values.bfloat16(), "whole": values}, path)
    result = read(path)
    assert result["half"].dtype == np.float32
    np.testing.assert_array_equal(result["half"], values.bfloat16().float().numpy())
    np.testing.assert_array_equal(result["whole"], values.numpy())


# --- by hand ---


def test_a_file_made_by_hand(path: Path) -> None:
    brain = np.array([1.5, -2], ml_dtypes.bfloat16)
    header = {
        "__metadata__": {"format": "pt"},
        "second": tensor("BF16", [2], 8, 12),
        "first": tensor(shape=[1, 2]),
        "empty": tensor("I64", [0, 3], 12, 12),
        "scalar": tensor("U8", [], 12, 13),
    }
    path.write_bytes(
        packed(header, np.array([3, 4], "<f4").tobytes() + brain.tobytes() + b"\x07")
    )
    result = read(path)
    np.testing.assert_array_equal(result["first"], np.array([[3, 4]], np.float32))
    np.testing.assert_array_equal(result["second"], np.array([1.5, -2], np.float32))
    assert (
        result["empty"].shape == (0, 3)
        and result["scalar"] == 7
        and result["scalar"].shape == ()
    )
    result["first"][0, 0] = 1  # an array of its own, that can be written to


HOSTILE = {
    "nothing": b"",
    "half a length": b"\x02\0\0",
    "no header": (0).to_bytes(8, "little"),
    "longer than the file": (100).to_bytes(8, "little") + b"{}",
    "2**63": (2**63).to_bytes(8, "little") + b"{}",
    "all ones": b"\xff" * 64,
    "a pickle": b"\x80\x04cposix\nsystem\n(X\x06\x00\x00\x00exit 1tR.",
    "not JSON": packed(b"{'a': 1}"),
    "not UTF-8": packed(b'{"\xff": 1}'),
    "a list": packed([]),
    "deep": packed(b"[" * 200_000),
    "a huge number": packed(b'{"a": ' + b"9" * 10_000 + b"}"),
    "two of a name": packed(
        b'{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, '
        b'"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    ),
    "a number for a tensor": packed({"a": 1}),
    "no offsets": packed({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "something more": packed({"a": tensor() | {"file": "/etc/passwd"}}, bytes(8)),
    "unknown type": packed({"a": tensor("F128")}, bytes(8)),
    "type that is a list": packed({"a": tensor(["F32"])}, bytes(8)),
    "type with control characters": packed({"a\x1b[2J": tensor("\x1b[2J\n")}, bytes(8)),
    "shape that is a number": packed({"a": tensor(shape=2)}, bytes(8)),
    "negative shape": packed({"a": tensor(shape=[-1, -2])}, bytes(8)),
    "fractional shape": packed({"a": tensor(shape=[2.0])}, bytes(8)),
    "truth for a shape": packed({"a": tensor("U8", [True], 0, 1)}, bytes(1)),
    "too many dimensions": packed({"a": tensor(shape=[1] * 100 + [2])}, bytes(8)),
    "three offsets": packed(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, bytes(8)
    ),
    "negative offset": packed({"a": tensor(begin=-8, end=0)}, bytes(8)),
    "backwards": packed({"a": tensor(begin=8, end=0)}, bytes(8)),
    "beyond the file": packed({"a": tensor(shape=[2**40], end=2**42)}, bytes(8)),
    "beyond any file": packed({"a": tensor(shape=[2**64], end=2**66)}, bytes(8)),
    "shape larger than the bytes": packed({"a": tensor(shape=[3])}, bytes(8)),
    "shape smaller than the bytes": packed({"a": tensor(shape=[1])}, bytes(8)),
    "nothing of impossible shape": packed({"a": tensor(shape=[0, 2**47, 2**47], end=0)}),
    "nothing of a shape beyond 64 bits": packed({"a": tensor(shape=[0, 2**64], end=0)}),
    "nothing of too many dimensions": packed({"a": tensor(shape=[0] * 100, end=0)}),
    "overlap": packed({"a": tensor(), "b": tensor(begin=4, end=12)}, bytes(12)),
    "one place twice": packed({"a": tensor(), "b": tensor()}, bytes(8)),
    "hole": packed({"a": tensor(), "b": tensor(begin=12, end=20)}, bytes(20)),
    "hole at the beginning": packed({"a": tensor(begin=4, end=12)}, bytes(12)),
    "more than the tensors": packed({"a": tensor()}, bytes(9)),
    "less than the tensors": packed({"a": tensor()}, bytes(7)),
    "bytes and no tensors": packed({}, bytes(1)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "not a safetensors file, or damaged" in refusal(path)


def test_a_large_header_is_not_parsed(path: Path) -> None:
    with path.open("wb") as file:
        file.write((2 * 10**7).to_bytes(8, "little"))
        file.truncate(3 * 10**7)
    assert "its header has no possible length" in refusal(path)


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    content = packed({"a": tensor(), "b": tensor("U8", [3], 8, 11)}, bytes(11))
    path.write_bytes(content)
    assert list(read(path)) == ["a", "b"]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refusal(path)


def test_missing_files_and_folders(path: Path, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(path)
    assert "is not a file, but a folder" in refusal(tmp_path)


# --- writing ---


@quick
@given(TENSORS, st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
def test_what_is_written_is_read(path: Path, tensors: dict, texts: dict) -> None:
    write(path, tensors, texts)
    assert_same(read(path), tensors)
    assert metadata(path) == texts


def test_the_original_reads_it(path: Path) -> None:
    original = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    tensors = {name: np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
    tensors |= {
        "flags": np.array([True, False]),
        "one": np.float32(3)[...],
        "none": np.zeros((0, 2), np.float16),
    }
    write(path, tensors, {"about": 'é "quoted"'})
    assert_same(load_file(path), tensors)
    with original.safe_open(path, "numpy") as file:
        assert file.metadata() == {"about": 'é "quoted"'}


def test_a_file_depends_on_its_content_alone(path: Path) -> None:
    tensors = {
        "b": np.float16([1, 2, 3]),
        "a": np.float32([[1, 2], [3, 4]]),
        "c": np.float64([5]),
    }
    write(path, tensors)
    first = path.read_bytes()
    write(path, {name: tensors[name] for name in "acb"})
    assert path.read_bytes() == first
    assert int.from_bytes(first[:8], "little") % 8 == 0
    swapped = {
        name: array.astype(array.dtype.newbyteorder(">")) for name, array in tensors.items()
    }
    write(path, swapped | {"a": np.asfortranarray(swapped["a"])})
    assert path.read_bytes() == first


def test_bfloat16_is_written(path: Path) -> None:
    write(path, {"x": np.array([1.5, -2.0], ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(read(path)["x"], np.float32([1.5, -2.0]))


def test_what_has_no_place_is_refused(path: Path) -> None:
    path.write_bytes(b"before")
    for array in (np.zeros(2, np.complex64), np.array(["text"]), np.array([None])):
        with pytest.raises(TypeError, match="no place"):
            write(path, {"fine": np.zeros(1, np.float32), "x": array})
    assert path.read_bytes() == b"before"
    with pytest.raises(UserError, match="cannot be written"):
        write(path.parent / "missing" / "x.safetensors", {})


def test_texts_that_are_none_are_refused(path: Path) -> None:
    for texts in ([], {"a": 1}, {"a": {"b": "c"}}, "text"):
        path.write_bytes(packed({"__metadata__": texts}))
        with pytest.raises(UserError, match="damaged"):
            metadata(path)
