"""Reads PyTorch files (`.pth`, `.pt`, `.bin`) without PyTorch, and without trust.

A PyTorch file is a pickle beside raw storages, and a pickle can call anything. This reader uses
Python's own unpickler with everything dangerous taken out: a name in the file only ever becomes an
inert `Opaque` record, and the few calls that make tensors and plain containers are looked up in a
table of our own. Nothing is imported because a file asks for it.

Layouts as in `torch/serialization.py` and `torch/_utils.py`: the zip format of torch >= 1.6 and the
legacy stream. `write` comes from `torch_writer`.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.weights.torch_writer import ALIGNMENT, TORCH_DTYPES, write

__all__ = ["Opaque", "Placeholders", "find_state_dict", "read", "write"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_KEY_TYPES = (str, int, float, bool, bytes, type(None))
_MAX_DIMENSIONS = 64
_MAX_SHARING = 16
"""How many times as large as the file its tensors may be together: some share a storage (tied
weights), most don't."""

_STORAGES = {f"torch.{storage}Storage": np.dtype(kind) for _, _, storage, kind in TORCH_DTYPES}
_STORAGES["torch.storage.UntypedStorage"] = np.dtype(np.uint8)
_DTYPES = {
    f"torch.{name}": np.dtype(kind)
    for first, second, _, kind in TORCH_DTYPES
    for name in (first, second)
}
# These have no storage class of their own: torch stores untyped bytes and the dtype beside them.
_DTYPES |= {f"torch.{name}": np.dtype(name) for name in ("uint16", "uint32", "uint64")}

_STATE_DICT_KEYS = ("weight", "model", "state_dict", "generator")
"""Where tools put the weights of a network in a file, in the order in which they are looked for."""

Placeholders = bool | Callable[[str], bool]


class Opaque:
    """What a file says of an object of an unknown class: its name and arguments, never the object.

    `state` is what `__setstate__` would have received (an instance's attributes, mostly); `items`
    are the entries of a list or the (key, value) pairs of a dict, for subclasses of those.
    """

    def __init__(self, name: str, args: tuple = ()):
        """Record the name of a class or function, and what it was called with."""
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: list[Any] = []

    def append(self, item: Any) -> None:
        """Record an entry of a list; the unpickler calls this."""
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Record an entry of a dict; the unpickler calls this."""
        self.items.append((key, value))

    def __repr__(self) -> str:
        """Show the name alone."""
        return f"Opaque({self.name!r})"


def read(path: str | Path, placeholders: Placeholders = False) -> Any:
    """Read what `torch.save` wrote, with tensors as NumPy arrays; they still share memory.

    Args:
      placeholders: Whether names of anything but tensors and plain containers become `Opaque`
        records instead of an error; or a function that decides by the name. For files whose
        settings are objects of the program that wrote them.

    Raises:
      UserError: The file can't be read, is damaged, is not PyTorch's, or has a refused name.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            read_container = _read_zip if is_zip else _read_legacy
            return read_container(file, path, placeholders)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None
    except _NotPyTorchError as error:
        raise UserError(f"{path}: not a PyTorch file: {error}") from None
    except _DamagedError as error:
        raise UserError(f"{path}: a damaged PyTorch file: {error}") from None
    except Exception as error:  # a damaged pickle or zip can raise anything
        reason = f"{type(error).__name__}: {sanitize(error)}"
        raise UserError(f"{path}: not a PyTorch file, or damaged ({reason})") from None


def find_state_dict(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Find the weights in a file's content: under a key that tools use, or the content itself."""
    for key in _STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            return content[key]
    return content


class _NotPyTorchError(Exception):
    """The file is of another kind, or of one that is not supported."""


class _DamagedError(Exception):
    """What the file says can't be true."""


# --- the two containers ---


def _read_zip(file: Any, path: Path, placeholders: Placeholders) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        if "data.pkl" not in members:
            raise _NotPyTorchError("a zip archive of something else")
        if "constants.pkl" in members:
            raise _NotPyTorchError("a TorchScript program; only files of weights can be read")
        if sum(member.file_size for member in members.values()) > size:
            raise _DamagedError("its members claim to be larger than the file")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise _NotPyTorchError("written by a big-endian machine, which is not supported")

        def load_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
            member = members.get(f"data/{key}")
            storage = np.empty(elements * itemsize, np.uint8)
            if member is None or member.file_size != storage.nbytes:
                raise _DamagedError(
                    f"the storage {sanitize(key)} is missing or of another length than its tensors "
                    "say"
                )
            stream: Any
            with archive.open(member) as stream:
                if stream.readinto(storage) != storage.nbytes:
                    raise _DamagedError(f"the storage {sanitize(key)} is cut short")
                stream.read()  # reaches the end, where the checksum is verified
            return storage

        program = io.BytesIO(archive.read(members["data.pkl"]))
        return _Unpickler(program, path, size, load_storage, placeholders).load()


def _read_legacy(file: Any, path: Path, placeholders: Placeholders) -> Any:
    """Read five pickles (magic number, version, platform, object, storage keys), then storages."""
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, tuple[int, np.ndarray]] = {}

    def reserve_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
        # The bytes come after the pickle: tensors are made on memory that is filled below.
        reserved = sum(storage.nbytes for _, storage in storages.values())
        if reserved + elements * itemsize > size:
            raise _DamagedError("its tensors claim to be larger than the file")
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
        raise _NotPyTorchError("neither a zip archive nor the legacy format")
    if unpickle() != _LEGACY_PROTOCOL:
        raise _NotPyTorchError("an unknown version of the legacy format")
    if unpickle().get("little_endian") is not True:
        raise _NotPyTorchError("written by a big-endian machine, which is not supported")
    result = unpickle()
    keys = unpickle()
    if set(keys) != set(storages):
        raise _DamagedError("its list of storages does not match its tensors")
    for key in keys:
        elements, storage = storages[key]
        if int.from_bytes(file.read(8), "little") != elements:
            raise _DamagedError(
                f"the storage {sanitize(key)} is of another length than its tensors say"
            )
        if file.readinto(storage) != storage.nbytes:
            raise _DamagedError("it ends in the middle of a tensor")
    return result


# --- the unpickler ---


class _Storage(NamedTuple):
    """The memory of one or several tensors."""

    data: np.ndarray
    """Raw bytes."""
    dtype: np.dtype


_DATA_INSTRUCTIONS = """
    PROTO FRAME STOP MARK POP POP_MARK DUP
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    PERSID BINPERSID GLOBAL STACK_GLOBAL
"""
"""Instructions that are harmless once `find_class` and `persistent_load` are ours."""


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys of dicts and members of sets that are not plain.

    The hash of tuples in tuples, or of a number of megabytes, can take for ever.
    """
    for key in keys:
        is_plain = type(key) in _KEY_TYPES or type(key) is Opaque
        is_huge = type(key) is int and key.bit_length() > 64
        if not is_plain or is_huge:
            raise _DamagedError(
                "it has a key that is neither a text nor a number of usual size"
            )


# typeshed knows little of it, and pickle's own dispatch holds any callable.
_PythonUnpickler: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


def _check_keys_before(instruction: Callable, of_marked: bool, every: int) -> Callable:
    """Wrap an instruction with a check of the keys that it will use.

    Args:
      of_marked: Whether they are on the stack since the mark; a single item is its last two places.
      every: 2 for keys with values, 1 for members of a set.
    """

    def run(self: _Unpickler) -> None:
        keys = self.stack[::every] if of_marked else self.stack[-2:-1]
        _check_keys(keys)
        instruction(self)

    return run


def _allowed_instructions() -> dict[int, Callable]:
    """The instructions that only build data, by opcode."""
    original = _PythonUnpickler.dispatch
    allowed = {}
    for name in _DATA_INSTRUCTIONS.split():
        opcode = getattr(pickle, name)[0]
        allowed[opcode] = original[opcode]
    for name, of_marked, every in (
        ("SETITEM", False, 2),
        ("SETITEMS", True, 2),
        ("DICT", True, 2),
        ("ADDITEMS", True, 1),
        ("FROZENSET", True, 1),
    ):
        opcode = getattr(pickle, name)[0]
        allowed[opcode] = _check_keys_before(allowed[opcode], of_marked, every)
    return allowed


class _Unpickler(_PythonUnpickler):
    """Python's unpickler with only those instructions that build data.

    This is the pure Python one, because its instructions can be replaced. The C one would set
    attributes (BUILD) or make instances (NEWOBJ) of anything on the stack, and it allocates memory
    by an index that the file gives.
    """

    def __init__(
        self,
        file: IO[bytes],
        path: Path,
        size: int,
        load_storage: Callable[[str, int, int], np.ndarray],
        placeholders: Placeholders,
    ):
        """Prepare to unpickle a file of `size` bytes.

        load_storage: Returns the raw bytes of a storage, given its key, elements and itemsize.
        """
        super().__init__(file, encoding="utf-8")
        self.is_wanted = placeholders if callable(placeholders) else lambda name: placeholders
        self.path = path
        self.size = size
        self.load_storage = load_storage
        self.storages: dict[str, np.ndarray] = {}
        self.claimed = 0

    def find_class(self, module: str, name: str) -> Any:
        """Return an inert record of a class or function that the file names (a dtype as itself)."""
        full_name = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full_name in _DTYPES:
            return _DTYPES[full_name]
        if not (full_name in _CALLS or full_name in _STORAGES or self.is_wanted(full_name)):
            raise UserError(
                f"{self.path}: names `{sanitize(full_name)}`, which a model file has no reason to: "
                "refused"
            )
        return Opaque(full_name)

    def persistent_load(self, reference: Any) -> Any:
        """Load a storage: ("storage", class, key, device, elements) and, in old files, a view.

        The legacy format also writes the class of a module this way, together with its source code.
        """
        is_tuple = type(reference) is tuple
        if is_tuple and len(reference) == 4 and reference[0] == "module":
            return reference[1]
        if not is_tuple or len(reference) not in (5, 6) or reference[0] != "storage":
            raise _DamagedError("it refers to something other than a storage")
        _, kind, key, _, elements, *view = list(reference)
        if view not in ([], [None]):
            raise _NotPyTorchError(
                "views of storages, as written before torch 0.4, are not supported"
            )
        if type(kind) is not Opaque or kind.name not in _STORAGES:
            raise _NotPyTorchError("it has a storage of a kind that is not supported")
        dtype = _STORAGES[kind.name]
        if type(key) is not str or type(elements) is not int or elements < 0:
            raise _DamagedError("a reference to a storage makes no sense")
        nbytes = elements * dtype.itemsize
        if nbytes > self.size:
            raise _DamagedError("a tensor claims to be larger than the file")
        if key not in self.storages:
            self.storages[key] = self.load_storage(key, elements, dtype.itemsize)
        if self.storages[key].nbytes != nbytes:
            raise _DamagedError(f"the storage {sanitize(key)} has two lengths")
        return _Storage(self.storages[key], dtype)

    def _call(self) -> None:
        """REDUCE and NEWOBJ: turn a named class or function and its arguments into a value."""
        args = self.stack.pop()
        target = self.stack.pop()
        if type(target) is not Opaque or type(args) is not tuple:
            raise _DamagedError("it calls something that is not a function")
        call = _CALLS.get(target.name)
        value = call(*args) if call else Opaque(target.name, args)
        if type(value) is np.ndarray:
            self._check_claim(value)
        self.stack.append(value)

    def _check_claim(self, array: np.ndarray) -> None:
        """Refuse tensors far larger than the file. Nothing is copied here, but callers copy."""
        if array.size > self.size:  # by strides of 0, a byte can claim to be a terabyte
            raise _DamagedError("a tensor claims to be larger than the file")
        self.claimed += array.nbytes
        if self.claimed > _MAX_SHARING * self.size + ALIGNMENT:
            raise _DamagedError(
                "its tensors share their storages so often that together they are far larger than "
                "it"
            )

    def _set_state(self) -> None:
        """BUILD: record the attributes of an instance; drop those of state dicts (`_metadata`)."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Opaque:
            target.state = state
        elif type(target) is not OrderedDict:
            raise _DamagedError("it sets attributes where there are none")

    dispatch = {  # noqa: RUF012  (as in the base class)
        **_allowed_instructions(),
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _set_state,
    }


# --- calls that are allowed ---


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
    """Return an array on a storage, within its bounds; offset and strides are in elements."""
    if flags:
        raise _NotPyTorchError(
            "it stores a tensor as a conjugate or negative view, which is not supported"
        )
    if type(storage) is not _Storage:
        raise _DamagedError("a tensor has no storage")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise _DamagedError("a tensor has no proper shape")
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or n < 0 or n.bit_length() > 63 for n in numbers):
        raise _DamagedError("a tensor has no proper shape")
    dtype = dtype or storage.dtype
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    if (last + 1) * dtype.itemsize > storage.data.nbytes:
        raise _DamagedError(f"a tensor of shape {sanitize(shape)} does not fit its storage")
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
        raise _DamagedError("a device has no proper name")
    return kind if index is None else f"{kind}:{index}"


def _container(kind: type) -> Callable[..., Any]:
    """Return a function that builds `kind` from a list or tuple: never from a number, a size."""

    def build(items: Any = ()) -> Any:
        if type(items) not in (list, tuple):
            raise _DamagedError(f"a {kind.__name__} is made of something other than a list")
        if kind is OrderedDict:
            _check_keys(pair[0] for pair in items)
        elif kind is not bytes:
            _check_keys(items)
        return kind(items)

    return build


def _encode(text: str, encoding: str) -> bytes:
    """Decode bytes as protocol 2 writes them."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise _DamagedError("bytes are spelled in an unknown way")
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
