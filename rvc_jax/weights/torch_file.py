"""PyTorch files (`.pth`, `.pt`, `.bin`) without PyTorch, and without trust.

A PyTorch file is a pickle beside raw storages, and a pickle can call anything. This reader keeps
the pickle machine and takes away its hands: a name in the file only ever becomes an inert `Opaque`
record, and the few calls that make tensors and plain containers are looked up in a table of our
own. Nothing is imported on the file's word.

Layouts as in `torch/serialization.py` and `torch/_utils.py`: the zip format of torch >= 1.6 and the
legacy stream.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.files import atomic_write

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ALIGNMENT = 64
"""Bytes; torch aligns storages so that they can be memory-mapped."""

_DTYPE_NAMES = (
    ("float16", "half", "Half", np.float16),
    ("float32", "float", "Float", np.float32),
    ("float64", "double", "Double", np.float64),
    ("bfloat16", "bfloat16", "BFloat16", ml_dtypes.bfloat16),
    ("uint8", "uint8", "Byte", np.uint8),
    ("int8", "int8", "Char", np.int8),
    ("int16", "short", "Short", np.int16),
    ("int32", "int", "Int", np.int32),
    ("int64", "long", "Long", np.int64),
    ("bool", "bool", "Bool", np.bool_),
    ("complex64", "cfloat", "ComplexFloat", np.complex64),
    ("complex128", "cdouble", "ComplexDouble", np.complex128),
)
_KEYS = (str, int, float, bool, bytes, type(None))
_MOST_DIMENSIONS = 64
_MOST_SHARED = 16
"""How much larger than the file its tensors may be together: some share a storage (tied weights),
most don't."""

_STORAGES = {f"torch.{storage}Storage": np.dtype(kind) for _, _, storage, kind in _DTYPE_NAMES}
_STORAGE_NAMES = {kind: name for name, kind in _STORAGES.items()}
_DTYPES = {
    f"torch.{name}": np.dtype(kind)
    for first, second, _, kind in _DTYPE_NAMES
    for name in (first, second)
}
# These have no storage class of their own: torch keeps them as untyped bytes and names the type
# beside.
_DTYPES |= {f"torch.{name}": np.dtype(name) for name in ("uint16", "uint32", "uint64")}
_STORAGES["torch.storage.UntypedStorage"] = np.dtype(np.uint8)


Placeholders = bool | Callable[[str], bool]


class Opaque:
    """What a file says of an object of a class that we do not know: the class's name and arguments,
    never the object.

    `state` is what would have gone to `__setstate__` (an instance's attributes, mostly); `items`
    are the entries of a list or (key, value) pairs of a dict, for subclasses of those.
    """

    def __init__(self, name: str, args: tuple = ()):
        self.name = name
        self.args = args
        self.state = None
        self.items = []

    def append(self, item: Any) -> None:
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __repr__(self) -> str:
        return f"Opaque({self.name!r})"


def read(path: str | Path, placeholders: Placeholders = False) -> Any:
    """What `torch.save` wrote to `path`, with tensors as numpy arrays; tensors that share memory
    still do.

    Raises UserError when the file cannot be read, is damaged or not PyTorch's, or names anything
    but tensors and plain containers. With `placeholders`, such names become `Opaque` records
    instead: for files whose weights are wanted and whose settings are objects of the program that
    wrote them; a function says of which names.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            return (
                _read_zip(file, path, placeholders)
                if is_zip
                else _read_legacy(file, path, placeholders)
            )
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _NotPyTorch as error:
        raise UserError(f"{path}: not a PyTorch file: {error}") from None
    except _Damaged as error:
        raise UserError(f"{path}: a damaged PyTorch file: {error}") from None
    except Exception as error:  # a damaged pickle or zip can raise anything
        reason = f"{type(error).__name__}: {sanitize(error)}"
        raise UserError(f"{path}: not a PyTorch file, or damaged ({reason})") from None


class _NotPyTorch(Exception):
    """The file is of another kind, or of one that we do not read."""


class _Damaged(Exception):
    """What the file says cannot be true."""


# --- the two containers
# ----------------------------------------------------------------------------------------------


def _read_zip(file: BinaryIO, path: Path, placeholders: Placeholders) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        if "data.pkl" not in members:
            raise _NotPyTorch("a zip archive of something else")
        if "constants.pkl" in members:
            raise _NotPyTorch("a TorchScript program; only files of weights can be read")
        if sum(member.file_size for member in members.values()) > size:
            raise _Damaged("its members claim to be larger than the file")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise _NotPyTorch("written by a big-endian machine, which is not supported")

        def load_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
            member = members.get(f"data/{key}")
            storage = np.empty(elements * itemsize, np.uint8)
            if member is None or member.file_size != storage.nbytes:
                raise _Damaged(
                    f"the storage {sanitize(key)} is missing or of another length than its tensors say"
                )
            with archive.open(member) as stream:
                if stream.readinto(storage) != storage.nbytes:
                    raise _Damaged(f"the storage {sanitize(key)} is cut short")
                stream.read()  # reaches the end, where the checksum is verified
            return storage

        return _Unpickler(
            io.BytesIO(archive.read(members["data.pkl"])),
            path,
            size,
            load_storage,
            placeholders,
        ).load()


def _read_legacy(file: BinaryIO, path: Path, placeholders: Placeholders) -> Any:
    """Magic number, version, platform, the object, the keys of its storages: five pickles; then the
    storages."""
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, tuple[int, np.ndarray]] = {}

    def reserve_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
        """The bytes come after the pickle: tensors are made on reserved memory, filled below."""
        if (
            sum(reserved.nbytes for _, reserved in storages.values()) + elements * itemsize
            > size
        ):
            raise _Damaged("its tensors claim to be larger than the file")
        storages[key] = elements, np.empty(elements * itemsize, np.uint8)
        return storages[key][1]

    def unpickle() -> Any:
        return _Unpickler(file, path, size, reserve_storage, placeholders).load()

    try:
        magic = unpickle()
    except UserError:
        raise
    except Exception:
        magic = None
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise _NotPyTorch("neither a zip archive nor the legacy format")
    if unpickle() != _LEGACY_PROTOCOL:
        raise _NotPyTorch("an unknown version of the legacy format")
    if unpickle().get("little_endian") is not True:
        raise _NotPyTorch("written by a big-endian machine, which is not supported")
    result = unpickle()
    keys = unpickle()
    if set(keys) != set(storages):
        raise _Damaged("its list of storages does not match its tensors")
    for key in keys:
        elements, storage = storages[key]
        if int.from_bytes(file.read(8), "little") != elements:
            raise _Damaged(
                f"the storage {sanitize(key)} is of another length than its tensors say"
            )
        if file.readinto(storage) != storage.nbytes:
            raise _Damaged("it ends in the middle of a tensor")
    return result


# --- the pickle machine
# ----------------------------------------------------------------------------------------------


class _Storage(NamedTuple):
    data: np.ndarray
    """Raw bytes."""
    dtype: np.dtype


_DATA_OPCODES = [
    getattr(pickle, name)[0]
    for name in """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES
    BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    EMPTY_SET ADDITEMS FROZENSET GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE PERSID BINPERSID GLOBAL
    STACK_GLOBAL
    """.split()  # noqa: SIM905
]
"""Instructions whose own implementation is harmless once `find_class` and `persistent_load` are
ours."""


def _check_keys(keys: Iterable[Any]) -> None:
    """Keys of dictionaries and members of sets must be plain: the hash of tuples in tuples can take
    forever."""
    for key in keys:
        if (type(key) not in _KEYS and type(key) is not Opaque) or (
            type(key) is int and key.bit_length() > 64
        ):
            raise _Damaged("it has a key that is neither a text nor a number of usual size")


class _Unpickler(pickle._Unpickler):
    """The pickle machine with only those instructions that build data.

    The pure Python machine, because its instructions can be replaced; the C one would set
    attributes (BUILD) or make instances (NEWOBJ) of whatever lies on the stack, and allocates
    memory by an index that the file gives.
    """

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        size: int,
        load_storage: Callable[[str, int, int], np.ndarray],
        placeholders: Placeholders,
    ):
        super().__init__(file, encoding="utf-8")
        self.is_wanted = placeholders if callable(placeholders) else lambda name: placeholders
        self.path = path
        self.size = size
        self.load_storage = load_storage
        self.storages: dict[str, np.ndarray] = {}
        self.claimed = 0

    def find_class(self, module: str, name: str) -> Any:
        """A global that the file names, as an inert record (a dtype as itself)."""
        full_name = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full_name in _DTYPES:
            return _DTYPES[full_name]
        if not (full_name in _CALLS or full_name in _STORAGES or self.is_wanted(full_name)):
            raise UserError(
                f"{self.path}: names `{sanitize(full_name)}`, which a model file has no reason to: refused"
            )
        return Opaque(full_name)

    def persistent_load(self, reference: Any) -> Any:
        """A storage: ("storage", class, key, device, elements), and in the legacy format a view of
        another one.

        The legacy format also spells the class of a module this way, together with its source code.
        """
        if type(reference) is tuple and len(reference) == 4 and reference[0] == "module":
            return reference[1]
        if (
            type(reference) is not tuple
            or len(reference) not in (5, 6)
            or reference[0] != "storage"
        ):
            raise _Damaged("it refers to something other than a storage")
        _, kind, key, _, elements, *view = reference
        if view not in ([], [None]):
            raise _NotPyTorch(
                "views of storages, as written before torch 0.4, are not supported"
            )
        if type(kind) is not Opaque or kind.name not in _STORAGES:
            raise _NotPyTorch("it has a storage of a kind that is not supported")
        dtype = _STORAGES[kind.name]
        if type(key) is not str or type(elements) is not int or elements < 0:
            raise _Damaged("a reference to a storage makes no sense")
        nbytes = elements * dtype.itemsize
        if nbytes > self.size:
            raise _Damaged("a tensor claims to be larger than the file")
        if key not in self.storages:
            self.storages[key] = self.load_storage(key, elements, dtype.itemsize)
        if self.storages[key].nbytes != nbytes:
            raise _Damaged(f"the storage {sanitize(key)} has two lengths")
        return _Storage(self.storages[key], dtype)

    def _call(self) -> None:
        """REDUCE and NEWOBJ: the named class or function, and its arguments, become a value."""
        args = self.stack.pop()
        target = self.stack.pop()
        if type(target) is not Opaque or type(args) is not tuple:
            raise _Damaged("it calls something that is not a function")
        value = (
            _CALLS[target.name](*args) if target.name in _CALLS else Opaque(target.name, args)
        )
        if (
            type(value) is np.ndarray and value.size > self.size
        ):  # by strides of 0, a byte can claim to be a terabyte
            raise _Damaged("a tensor claims to be larger than the file")
        if type(value) is np.ndarray:  # nothing is copied here, but by whoever uses them
            self.claimed += value.nbytes
            if self.claimed > _MOST_SHARED * self.size + _ALIGNMENT:
                raise _Damaged(
                    "its tensors share their storages so often that together they are far larger than it"
                )
        self.stack.append(value)

    def _set_state(self) -> None:
        """BUILD: attributes of an instance. Of what we build only state dicts have any
        (`_metadata`): dropped."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Opaque:
            target.state = state
        elif type(target) is not OrderedDict:
            raise _Damaged("it sets attributes where there are none")

    def _checked(of_marked: bool, every: int, original: Callable) -> Callable:  # noqa: N805 a decorator, not a method
        """The instruction, with a look at the keys before."""

        def run(self: _Unpickler) -> None:
            # Items since the mark lie on the current stack; a single item is its last two places.
            keys = self.stack[::every] if of_marked else self.stack[-2:-1]
            _check_keys(keys)
            original(self)

        return run

    dispatch = {code: pickle._Unpickler.dispatch[code] for code in _DATA_OPCODES}
    for _name, _of_marked, _every in (
        ("SETITEM", False, 2),
        ("SETITEMS", True, 2),
        ("DICT", True, 2),
        ("ADDITEMS", True, 1),
        ("FROZENSET", True, 1),
    ):
        _code = getattr(pickle, _name)[0]
        dispatch[_code] = _checked(_of_marked, _every, dispatch[_code])
    dispatch |= {pickle.REDUCE[0]: _call, pickle.NEWOBJ[0]: _call, pickle.BUILD[0]: _set_state}


# --- the calls that are known
# ----------------------------------------------------------------------------------------


def _tensor(
    storage: _Storage,
    offset: int,
    shape: tuple,
    strides: tuple,
    requires_grad: Any = None,
    hooks: Any = None,
    flags: Any = None,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    """An array on a storage, within its bounds; offset and strides in elements."""
    if flags:
        raise _NotPyTorch(
            "it stores a tensor as a conjugate or negative view, which is not supported"
        )
    if type(storage) is not _Storage:
        raise _Damaged("a tensor has no storage")
    if (
        len(shape) != len(strides)
        or len(shape) > _MOST_DIMENSIONS
        or any(type(n) is not int or n < 0 for n in (offset, *shape, *strides))
    ):
        raise _Damaged("a tensor has no proper shape")
    if any(n.bit_length() > 63 for n in (offset, *shape, *strides)):
        raise _Damaged("a tensor has no proper shape")
    dtype = dtype or storage.dtype
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    if (last + 1) * dtype.itemsize > storage.data.nbytes:
        raise _Damaged(f"a tensor of shape {sanitize(shape)} does not fit its storage")
    steps = tuple(stride * dtype.itemsize for stride in strides)
    return np.ndarray(shape, dtype, storage.data, offset * dtype.itemsize, steps)


def _typed_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple,
    strides: tuple,
    requires_grad: Any,
    hooks: Any,
    dtype: np.dtype,
    flags: Any = None,
) -> np.ndarray:
    return _tensor(storage, offset, shape, strides, requires_grad, hooks, flags, dtype)


def _device(kind: str, index: int | None = None) -> str:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise _Damaged("a device has no proper name")
    return kind if index is None else f"{kind}:{index}"


def _container(kind: type) -> Callable[..., Any]:
    """Builds `kind` from nothing or from a list or tuple: never from a number, which would be a
    size."""

    def build(items: Any = ()) -> Any:
        if type(items) not in (list, tuple):
            raise _Damaged(f"a {kind.__name__} is made of something other than a list")
        if kind is OrderedDict:
            _check_keys(pair[0] for pair in items)
        elif kind is not bytes:
            _check_keys(items)
        return kind(items)

    return build


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise _Damaged("bytes are spelt in an unknown way")
    return text.encode("latin1")


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, requires_grad, hooks: data,
    "torch.Size": _container(tuple),
    "torch.device": _device,
    "collections.OrderedDict": _container(OrderedDict),
    "builtins.set": _container(set),
    "builtins.frozenset": _container(frozenset),
    "builtins.bytes": _container(bytes),
    "builtins.complex": complex,
    "_codecs.encode": _encode,
}


# --- writing
# ---------------------------------------------------------------------------------------------------------


def write(path: str | Path, value: Any) -> None:
    """Writes nested dicts, lists, tuples, str, int, float, bool, None and numpy arrays as
    `torch.save` would.

    Arrays become tensors; the file loads with `torch.load(path, weights_only=True)`. Subclasses
    (enums, say) and numpy scalars are written as the plain type, so that no reader needs our
    classes. Appears whole or not at all. Raises TypeError for a value that has no place in such a
    file, UserError when the disk refuses.
    """
    path = Path(path)
    pickler = _Pickler()
    program = pickler.dump(value)
    try:
        with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
            _add(archive, file, "data.pkl", program)
            _add(archive, file, "byteorder", b"little")
            for key, array in enumerate(pickler.arrays):
                _add(archive, file, f"data/{key}", array.reshape(-1).view(np.uint8).data)
            _add(archive, file, "version", b"3\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    """Adds an uncompressed member whose data begin at a multiple of 64 bytes, padded by an extra
    field as torch's."""
    member = zipfile.ZipInfo(f"archive/{name}")
    padding = (
        -(file.tell() + 30 + len(member.filename) + 4) % _ALIGNMENT
    )  # 30 and 4: fixed parts of the two headers
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(member, data)


class _Pickler:
    """Spells plain values and tensors in pickle protocol 2; collects the arrays that the tensors
    lie in."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._keys: dict[int, int] = {}
        self._kept: list[Any] = []
        """Keeps the arrays alive, so that no two have the same id."""

    def dump(self, value: Any) -> bytes:
        return b"\x80\x02" + self._spell(value) + pickle.STOP

    def _spell(self, value: Any) -> bytes:
        match value:
            case None:
                return pickle.NONE
            case bool():
                return pickle.NEWTRUE if value else pickle.NEWFALSE
            case int():
                return _spell_int(int(value))
            case float():
                return pickle.BINFLOAT + struct.pack(">d", value)
            case str():
                text = str.encode(value, "utf-8", "surrogatepass")
                return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
            case list():
                return pickle.EMPTY_LIST + pickle.MARK + self._spell_all(value) + pickle.APPENDS
            case tuple():
                return pickle.MARK + self._spell_all(value) + pickle.TUPLE
            case dict():
                empty = (
                    _EMPTY_ORDERED_DICT if isinstance(value, OrderedDict) else pickle.EMPTY_DICT
                )
                pairs = (item for pair in value.items() for item in pair)
                return empty + pickle.MARK + self._spell_all(pairs) + pickle.SETITEMS
            case np.ndarray():
                return self._spell_array(value)
            case np.generic():
                return self._spell(value.item())
        raise TypeError(f"{type(value).__name__} has no place in a PyTorch file")

    def _spell_all(self, values: Any) -> bytes:
        return b"".join(map(self._spell, values))

    def _spell_array(self, array: np.ndarray) -> bytes:
        native = array.dtype.newbyteorder("=") if array.dtype.byteorder == ">" else array.dtype
        if native not in _STORAGE_NAMES:
            raise TypeError(f"an array of {array.dtype} has no place in a PyTorch file")
        if id(array) not in self._keys:
            self._keys[id(array)] = len(self.arrays)
            self._kept.append(array)
            self.arrays.append(np.asarray(array, native, order="C"))
        storage = _global(_STORAGE_NAMES[native])
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        return b"".join(
            [
                _global("torch._utils._rebuild_tensor_v2"),
                pickle.MARK,
                pickle.MARK,
                self._spell("storage"),
                storage,
                self._spell(str(self._keys[id(array)])),
                self._spell("cpu"),
                self._spell(array.size),
                pickle.TUPLE,
                pickle.BINPERSID,
                self._spell_all((0, array.shape, tuple(strides), False)),
                _EMPTY_ORDERED_DICT,
                pickle.TUPLE,
                pickle.REDUCE,
            ]
        )


def _spell_int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    if len(digits) > 255:
        raise TypeError("an integer of more than 255 bytes has no place in a PyTorch file")
    return pickle.LONG1 + bytes([len(digits)]) + digits


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


_EMPTY_ORDERED_DICT = _global("collections.OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
