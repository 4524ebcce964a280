"""Round trips of PyTorch files against ourselves and against PyTorch, and files that mean harm."""

import argparse
import contextlib
import enum
import io
import math
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rvc_jax.errors import UserError
from rvc_jax.weights.torch_file import Opaque, find_state_dict, read, write

DTYPES = [
    "float16",
    "float32",
    "float64",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "bool",
    "complex64",
]
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pth"


def arrays():
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    plain = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
    brain = hnp.arrays("float32", shapes, elements=st.floats(width=16)).map(
        lambda a: a.astype(ml_dtypes.bfloat16)
    )
    return (
        plain | brain | plain.map(np.transpose) | plain.filter(np.ndim).map(lambda a: a[::-1])
    )


def values():
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    keys = st.text(max_size=8) | st.integers(-(2**63), 2**63 - 1) | st.booleans()

    def grow(inner):
        dicts = st.dictionaries(keys, inner, max_size=4)
        return (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | dicts
            | dicts.map(OrderedDict)
        )

    return st.recursive(scalars | arrays(), grow, max_leaves=12)


def assert_same(result, expected):
    """Equal in value, type and structure; NaN equals NaN."""
    assert type(result) is type(expected)
    if isinstance(expected, np.ndarray):
        assert result.dtype == expected.dtype and result.shape == expected.shape
        assert result.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(result) == list(expected)
        assert_same(list(result.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(one, other)
    else:
        assert result == expected or (math.isnan(result) and math.isnan(expected))


def convert(value, leaf, kind):
    """The same structure with every leaf of `kind` replaced."""
    if isinstance(value, kind):
        return leaf(value)
    if isinstance(value, dict):
        return type(value)((key, convert(item, leaf, kind)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(convert(item, leaf, kind) for item in value)
    return value


def to_torch(value):
    import torch

    def tensor(array):
        array = np.array(array, order="C")
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    return convert(value, tensor, np.ndarray)


def from_torch(value):
    import torch

    def array(tensor):
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    return convert(value, array, torch.Tensor)


# --- round trips ---


@quick
@given(value=values())
def test_what_we_write_we_read(path, value):
    write(path, value)
    assert_same(read(path), value)


@quick
@given(value=values())
def test_torch_reads_what_we_write(path, torch, value):
    write(path, value)
    assert_same(from_torch(torch.load(path, weights_only=True)), value)


@FORMATS
@quick
@given(value=values())
def test_we_read_what_torch_writes(path, torch, zipped, value):
    torch.save(to_torch(value), path, _use_new_zipfile_serialization=zipped)
    assert_same(read(path), value)


@FORMATS
def test_views_keep_strides_offsets_and_their_shared_storage(path, torch, zipped):
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = [
        base,
        base[1],
        base[:, 1:3, ::2],
        base.permute(2, 0, 1),
        base[2, 3, 4],
        base[:, :0],
        base[0, 0, :1].expand(7),
    ]
    torch.save(views, path, _use_new_zipfile_serialization=zipped)
    results = read(path)
    for result, view in zip(results, views, strict=True):
        np.testing.assert_array_equal(result, view.numpy())
    results[0][1] = -1
    assert (results[1] == -1).all()


@FORMATS
def test_other_things_that_torch_saves(path, torch, zipped):
    layer = torch.nn.Linear(2, 3)
    value = {
        "state": layer.state_dict(),
        "parameter": layer.weight,
        "optimizer": torch.optim.AdamW(layer.parameters(), betas=(0.8, 0.99)).state_dict(),
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda:1"),
        "dtype": torch.bfloat16,
        "set": {1, 2},
        "frozen": frozenset([3]),
        "bytes": b"\x00\xff",
        "empty": b"",
        "complex": 1 + 2j,
    }
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    result = read(path)
    assert list(result["state"]) == ["weight", "bias"]
    np.testing.assert_array_equal(result["parameter"], layer.weight.detach().numpy())
    assert result["optimizer"]["param_groups"][0]["betas"] == (0.8, 0.99)
    assert result["size"] == (2, 3) and type(result["size"]) is tuple
    assert result["device"] == "cuda:1" and result["dtype"] == np.dtype(ml_dtypes.bfloat16)
    for name in ("set", "frozen", "bytes", "empty", "complex"):
        assert result[name] == value[name] and type(result[name]) is type(value[name])


def test_unsigned_tensors_of_new_torch(path, torch):
    torch.save(torch.tensor([1, 2**16 - 1], dtype=torch.uint16), path)
    assert_same(read(path), np.array([1, 2**16 - 1], np.uint16))


def test_writing_makes_plain_types_shares_arrays_and_aligns_them(path):
    rate = enum.IntEnum("Rate", {"HZ_40K": 40000})
    array = np.arange(100, dtype=">f4")
    write(
        path,
        {
            "sr": rate.HZ_40K,
            "loss": np.float32(1.5),
            "step": np.int64(3),
            "a": array,
            "b": array,
        },
    )
    result = read(path)
    assert {key: type(result[key]) for key in ("sr", "loss", "step")} == {
        "sr": int,
        "loss": float,
        "step": int,
    }
    assert result["sr"] == 40000
    np.testing.assert_array_equal(result["a"], array)
    assert np.shares_memory(result["a"], result["b"])
    content = path.read_bytes()
    assert content.index(array.astype("<f4").tobytes()) % 64 == 0
    assert content.count(array.astype("<f4").tobytes()) == 1


@pytest.mark.parametrize(
    "value", [object(), {"f": print}, [np.array(["text"])], np.array([None]), {1, 2}]
)
def test_a_value_that_has_no_place_leaves_the_old_file(path, value):
    write(path, "old")
    with pytest.raises(TypeError, match="no place"):
        write(path, value)
    assert read(path) == "old" and list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    write(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", fail)
        with pytest.raises(UserError, match=r"model\.pth: cannot be written: No space left"):
            write(path, "new")
    assert read(path) == "old" and list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_missing_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "nowhere" / "model.pth", 1)


# --- files that are not what they say ---


def in_zip(program, storages=(), compression=zipfile.ZIP_STORED):
    """A zip file of the given pickle and storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in enumerate(storages):
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def in_legacy(program, storages=(), itemsize=4):
    """A legacy stream of the given pickle and storages."""
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    content = b"".join(pickle.dumps(head, 2) for head in heads) + program
    content += pickle.dumps([str(key) for key in range(len(storages))], 2)
    return content + b"".join(
        (len(data) // itemsize).to_bytes(8, "little") + data for data in storages
    )


def tensor_program(
    elements, offset, shape, strides, key="0", storage=b"ctorch\nFloatStorage\n"
):
    """The pickle of one tensor, with whatever claims about it."""

    def spell(value):
        return pickle.dumps(value, 2)[2:-1]

    reference = (
        b"(" + spell("storage") + storage + spell(key) + spell("cpu") + spell(elements) + b"tQ"
    )
    rest = spell(offset) + spell(shape) + spell(strides) + spell(False) + spell(None)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + reference + rest + b"tR."


WRAPPERS = pytest.mark.parametrize("wrap", [in_zip, in_legacy], ids=["zip", "legacy"])


def refusal(path, **options):
    """The text of the UserError that reading raises: one line that names the file."""
    with pytest.raises(UserError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.isprintable() and text.startswith(str(path))
    return text


@WRAPPERS
def test_hand_made_tensor_is_read(path, wrap):
    data = np.arange(6, dtype=np.float32)
    path.write_bytes(wrap(tensor_program(6, 1, (2, 2), (1, 3)), [data.tobytes()]))
    np.testing.assert_array_equal(read(path), [[1, 4], [2, 5]])


@WRAPPERS
@pytest.mark.parametrize(
    "claim",
    [
        (6, 0, (7,), (1,)),
        (6, 6, (1,), (1,)),
        (6, 0, (2, 4), (3, 1)),
        (6, 0, (10**12,), (0,)),
        (6, 0, (2**40, 2**40), (0, 0)),
        (6, 0, (3,), (-1,)),
        (6, -1, (3,), (1,)),
        (6, 0, (3,), (1, 1)),
        (6, 0, (3.0,), (1,)),
        (6, 0, (0, 10**30), (1, 1)),
        (5, 0, (3,), (1,)),
        (7, 0, (3,), (1,)),
        (10**15, 0, (3,), (1,)),
        (-6, 0, (3,), (1,)),
        (6, 0, (3,), (1,), "1"),
        (6, 0, (3,), (1,), "../../data/0"),
        (6, 0, (3,), (1,), "0", b"ctorch\nSize\n"),
        (6, 0, (3,), (1,), "0", b"N"),
    ],
)
def test_false_claims_about_a_tensor_are_refused(path, wrap, claim):
    path.write_bytes(wrap(tensor_program(*claim), [bytes(24)]))
    refusal(path)


def test_a_zip_bomb_is_refused(path):
    path.write_bytes(
        in_zip(
            tensor_program(10**7, 0, (10**7,), (1,)), [bytes(4 * 10**7)], zipfile.ZIP_DEFLATED
        )
    )
    assert "larger than the file" in refusal(path)


def test_a_big_memo_index_or_length_allocates_nothing(path):
    for program in (
        b"Nr\xff\xff\xff\x7f.",
        b"\x8d" + b"\xff" * 7 + b"\x00.",
        b"\x8b\xff\xff\xff\x7f.",
    ):
        path.write_bytes(in_zip(b"\x80\x04" + program))
        tolerated = program.startswith(b"Nr")  # a dictionary takes any index
        assert read(path) is None if tolerated else refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF\0\0\0\0WAVEfmt ", b"\x80", b"{}", bytes(range(256)), b"PK\x03\x04", b"N."],
)
def test_other_files_are_named_as_such(path, content):
    path.write_bytes(content)
    assert "not a PyTorch file" in refusal(path)


def test_other_zip_files_missing_files_and_folders(path, tmp_path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "a zip archive of something else" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "missing.pth")
    assert "is not a file, but a folder" in refusal(tmp_path)


def sample_content(tmp_path, wrap):
    """A small valid file: with the zip format as we write it, the legacy one hand-made."""
    if wrap is in_legacy:
        return in_legacy(
            tensor_program(6, 1, (2, 2), (1, 3)), [np.arange(6, dtype=np.float32).tobytes()]
        )
    write(
        tmp_path / "sample.pth",
        {"weight": np.arange(6.0), "config": [1, 2.5, "text", (True, None)]},
    )
    return (tmp_path / "sample.pth").read_bytes()


@WRAPPERS
def test_a_file_cut_short_anywhere_is_refused(path, tmp_path, wrap):
    content = sample_content(tmp_path, wrap)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refusal(path)


@WRAPPERS
@pytest.mark.parametrize("placeholders", [False, True])
@settings(quick, max_examples=300)
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(path, tmp_path, wrap, placeholders, data):
    content = bytearray(sample_content(tmp_path, wrap))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read(path, placeholders=placeholders)
    except UserError as error:
        assert str(error).isprintable()


# --- files that mean harm ---


@pytest.fixture
def canary(monkeypatch, tmp_path):
    """Calls of `canary.fire`, and a module whose import would count as one."""
    calls = []
    module = types.ModuleType("canary")
    module.fire = lambda *args: calls.append(args)
    module.Nested = type(
        "Nested", (), {"fire": staticmethod(module.fire), "__setstate__": module.fire}
    )
    monkeypatch.setitem(sys.modules, "canary", module)
    monkeypatch.delitem(sys.modules, "hatching", raising=False)
    (tmp_path / "hatching.py").write_text(
        "import canary\ncanary.fire('imported')\nfire = canary.fire\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield calls
    sys.modules.pop("hatching", None)


MALICE = {
    "reduce": b"ccanary\nfire\n)R.",
    "import": b"chatching\nfire\n)R.",
    "import without a call": b"chatching\nfire\n.",
    "stack global": b"\x80\x04\x8c\x06canary\x8c\x04fire\x93)R.",
    "dotted stack global": b"\x80\x04\x8c\x06canary\x8c\x0bNested.fire\x93)R.",
    "instance": b"(icanary\nfire\n.",
    "object": b"(ccanary\nfire\no.",
    "new object and state": b"\x80\x02ccanary\nNested\n)\x81}b.",
    "new object with keywords": b"\x80\x04ccanary\nNested\n)}\x92}b.",
    "eval": b"c__builtin__\neval\n(X\x1c\x00\x00\x00__import__('canary').fire(1)tR.",
    "nested getattr": b"cbuiltins\ngetattr\n(ccanary\nNested\nX\x04\x00\x00\x00firetR)R.",
    "map in a list": b"cbuiltins\nlist\n(cbuiltins\nmap\n(ccanary\nfire\n(NltRtR.",
    "inside a state dict": b"ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00accanary\nfire\n)Ru.",
    "hidden below the value": b"ccanary\nfire\n)R0N.",
}


@pytest.mark.parametrize("program", MALICE.values(), ids=MALICE)
@pytest.mark.parametrize(
    "wrap", [in_zip, in_legacy, lambda program: program], ids=["zip", "legacy", "bare"]
)
def test_calls_are_refused_and_never_made(path, canary, program, wrap):
    pickle.loads(program)
    assert canary, "the payload is harmless: the test proves nothing"
    canary.clear()
    sys.modules.pop("hatching", None)

    path.write_bytes(wrap(program))
    refusal(path)
    try:
        repr(read(path, placeholders=True))
    except UserError as error:
        assert str(error).startswith(str(path))
    assert not canary and "hatching" not in sys.modules


@WRAPPERS
@pytest.mark.parametrize("protocol", range(6))
def test_the_refusal_names_the_function(path, wrap, protocol):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, ("exit 1",)

    path.write_bytes(wrap(pickle.dumps({"weight": [Evil()]}, protocol)))
    text = refusal(path)
    assert (
        text.endswith("names `posix.system`, which a model file has no reason to: refused")
        or "nt.system" in text
    )
    harmless = read(path, placeholders=True)["weight"][0]
    assert isinstance(harmless, Opaque) and harmless.args == ("exit 1",)


@WRAPPERS
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_beside_a_tensor_is_not_run(path, tmp_path, wrap, protocol):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"echo > {tmp_path / 'ran'}",)

    pickle.loads(pickle.dumps(Evil(), protocol))
    (tmp_path / "ran").unlink()  # it does run where it is trusted
    evil = (
        pickle.dumps(Evil(), protocol).removeprefix(bytes([0x80, protocol])).removesuffix(b".")
    )
    tensor = tensor_program(6, 0, (6,), (1,)).removesuffix(b".")
    for program in (
        tensor + evil + b"0.",
        tensor + b"0" + evil + b".",
        tensor + evil + b"\x86.",
    ):
        path.write_bytes(wrap(program, [bytes(24)]))
        refusal(path)
        with contextlib.suppress(UserError):
            read(path, placeholders=True)
    assert not (tmp_path / "ran").exists()


@WRAPPERS
@pytest.mark.parametrize("opcode", [b"\x81.", b"}\x92."], ids=["NEWOBJ", "NEWOBJ_EX"])
@pytest.mark.parametrize("name", ["posix.system", "subprocess.Popen", "builtins.eval"])
def test_no_object_is_made_of_what_the_file_names(path, wrap, opcode, name):
    named = b"c" + name.replace(".", "\n").encode() + b"\n"
    path.write_bytes(wrap(b"\x80\x04" + named + b"(X\x06\x00\x00\x00exit 1t" + opcode))
    assert f"names `{name}`" in refusal(path)
    try:
        assert isinstance(read(path, placeholders=True), Opaque)
    except UserError as error:
        assert opcode != b"\x81.", error


@pytest.mark.parametrize(
    "member", ["archive/data.pkl", "archive/data/0", "model.pth", "../../data.pkl", "data.pkl"]
)
def test_an_archive_in_an_archive_is_refused(path, tmp_path, member):
    write(path, {"weight": np.arange(6.0)})
    inner = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, inner)
        archive.writestr("archive/version", "3\n")
    path.write_bytes(buffer.getvalue())
    assert "not a PyTorch file" in refusal(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model.pth"]


@WRAPPERS
@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x0c\x00\x00\x00__defaults__Nsb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.",
        b"ccollections\nOrderedDict\n}X\x05\x00\x00\x00clearNsb.",
    ],
)
def test_no_state_of_ours_is_changed(path, wrap, program):
    path.write_bytes(wrap(program))
    with contextlib.suppress(UserError):
        read(path)
    path.write_bytes(wrap(tensor_program(6, 0, (6,), (1,)), [bytes(24)]))
    assert read(path).shape == (6,)
    assert OrderedDict(a=1).clear() is None


@WRAPPERS
def test_a_hostile_name_cannot_write_on_the_terminal(path, wrap):
    path.write_bytes(wrap(b"\x80\x04\x8c\x0b\x1b[2J\nevil\r\n\x8c\x01f\x93."))
    assert "?[2J?evil" in refusal(path)


def test_bytes_by_number_are_refused(path):
    path.write_bytes(in_zip(b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR."))
    assert "made of something other than a list" in refusal(path)


# --- placeholders ---


class Rate(enum.IntEnum):
    HZ_40K = 40000


@pytest.mark.parametrize("protocol", [2, 4])
def test_placeholders_stand_for_unknown_objects(path, protocol):
    value = {
        "args": argparse.Namespace(lr=0.1),
        "sr": Rate.HZ_40K,
        "class": Rate,
        "weight": (1, 2),
    }
    path.write_bytes(in_zip(pickle.dumps(value, protocol)))
    assert "names `argparse.Namespace`" in refusal(path)
    result = read(path, placeholders=True)
    assert result["weight"] == (1, 2)
    assert result["args"].name == "argparse.Namespace" and result["args"].state == {"lr": 0.1}
    assert result["sr"].name.endswith("Rate") and result["sr"].args == (40000,)
    assert result["class"].name.endswith("Rate") and result["class"].args == ()


@FORMATS
def test_placeholders_give_the_weights_of_a_whole_module(path, torch, zipped):
    layer = torch.nn.Linear(2, 3)
    torch.save(layer, path, _use_new_zipfile_serialization=zipped)
    assert "torch.nn.modules.linear.Linear" in refusal(path)
    parameters = read(path, placeholders=True).state["_parameters"]
    np.testing.assert_array_equal(parameters["weight"], layer.weight.detach().numpy())


# --- state dicts ---


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"model": {"a": 1}, "weight": {"b": 2}, "config": []}, {"b": 2}),
        ({"model": {"a": 1}, "optimizer": {"state": {}}}, {"a": 1}),
        ({"state_dict": {"a": 1}, "generator": {"b": 2}}, {"a": 1}),
        ({"weight": 3, "generator": {"b": 2}}, {"b": 2}),
        ({"a": 1}, {"a": 1}),
        ({}, {}),
    ],
)
def test_find_state_dict(content: dict, found: dict) -> None:
    assert find_state_dict(content) == found
