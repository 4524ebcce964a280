"""Pickles made at random: each is built or refused, in bounded time, with bounded memory."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Iterator
from pathlib import Path

import hostile_models
import numpy as np
import pytest

from rvc_jax.errors import UserError
from rvc_jax.weights import torch_file

_SECONDS = 5.0
_NAMES = (
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nSize\n",
    b"ccollections\nOrderedDict\n",
    b"c__builtin__\nset\n",
    b"c_codecs\nencode\n",
    b"cany.tool\nThing\n",
    b"cposix\nsystem\n",
)
_PLAIN = (b"N", b"\x88", b"}", b"]", b")", b"\x8f", b"(", b"2", b"0", b"1", b"\x85", b"\x86")
_BUILD = (b"t", b"l", b"d", b"e", b"u", b"a", b"s", b"\x90", b"\x91", b"R", b"b", b"\x81", b"Q")


def _make_program(draw: random.Random) -> bytes:
    """Return up to 400 instructions: values, references to earlier ones, and what joins them."""
    program = bytearray(b"\x80\x02")
    for _ in range(draw.randrange(1, 400)):
        match draw.randrange(8):
            case 0 | 1:
                program += draw.choice(_PLAIN)
            case 2 | 3:
                program += draw.choice(_BUILD)
            case 4:
                program += b"q%c" % draw.randrange(8)
            case 5:
                program += b"h%c" % draw.randrange(8)
            case 6:
                program += draw.choice(_NAMES)
            case _:
                program += _make_value(draw)
    return bytes(program + b".")


def _make_value(draw: random.Random) -> bytes:
    value = draw.choice(
        (
            draw.randrange(-(2**70), 2**70),
            draw.randrange(300),
            draw.random(),
            "x" * draw.randrange(40),
            b"y" * draw.randrange(40),
            "storage",
            "0",
            1 << draw.randrange(2**15),
            (1,) * draw.randrange(70),
        )
    )
    content = bytearray(pickle.dumps(value, draw.randrange(2, 5))[2:-1])
    if draw.random() < 0.1:
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def _make_files(seed: int, count: int) -> Iterator[bytes]:
    draw = random.Random(seed)
    for _ in range(count):
        program = _make_program(draw)
        if draw.random() < 0.5:
            yield hostile_models.in_zip(program, {"0": bytes(24)})
        elif draw.random() < 0.5:
            yield hostile_models.in_legacy(program)
        else:
            yield hostile_models.in_legacy(b"\x80\x02}.", program)


def _check_random_files(path: Path, seed: int, count: int) -> None:
    for content in _make_files(seed, count):
        path.write_bytes(content)
        start = time.monotonic()
        try:
            # What is read can be printed: nothing in it names itself.
            repr(torch_file.read(path, placeholders=True))
        except UserError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()
        assert time.monotonic() - start < _SECONDS


def test_random_pickles_are_built_or_refused(tmp_path: Path) -> None:
    _check_random_files(tmp_path / "random.pt", 1, 800)


@pytest.mark.heavy
def test_many_random_pickles_are_built_or_refused(tmp_path: Path) -> None:
    _check_random_files(tmp_path / "random.pt", 2, 100_000)


@pytest.mark.parametrize(
    "name",
    [
        "copies of a text.pth",
        "sets of a list.pth",
        "empty sets.pth",
        "many dictionaries.pth",
        "deep tuples of storages, legacy keys.pt",
        "tuples of tuples, legacy keys.pt",
        "a set of tuples of tuples, legacy keys.pt",
        "a list with itself, legacy keys.pt",
        "a key for a tensor.pth",
        "tuples of tuples.pth",
        "deep lists.pth",
        "a list in itself.pth",
    ],
)
def test_programs_that_would_never_end_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(hostile_models.files()[name])
    start = time.monotonic()
    with pytest.raises(UserError, match="damaged PyTorch file"):
        torch_file.read(path, placeholders=True)
    assert time.monotonic() - start < 30


def test_objects_that_refer_to_each_other_are_read(tmp_path: Path) -> None:
    # As the settings in a file of fairseq: each knows the one that holds it.
    thing = b"cany.tool\nThing\n)R"
    program = b"\x80\x02" + thing + b"q\0}U\5child" + thing + b"h\0\x85bsb."
    path = tmp_path / "model.pt"
    path.write_bytes(hostile_models.in_zip(program))
    record = torch_file.read(path, placeholders=True)
    assert record.state["child"].state == (record,)


def test_a_storage_is_named_by_a_text_of_many_letters(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    values = [torch.full((3,), float(number)) for number in range(300)]
    torch.save(values, path, _use_new_zipfile_serialization=False)
    for number, array in enumerate(torch_file.read(path)):
        np.testing.assert_array_equal(array, number)
