"""The unpickler of PyTorch files: it builds plain data and tensors, and nothing else.

Python's own unpickler with everything dangerous taken out: a name in the file only ever becomes an
inert `Opaque` record, and the few calls that make tensors and plain containers are looked up in a
table of our own. Nothing is imported because a file asks for it.

Time and memory are bounded by the size of the program and by limits of ours, whatever it claims:
the instructions that it has, the nesting of what it builds, and the size of that written out in
full, since a list of lists can name itself so often that to print it would never end.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from rvc_jax.errors import UserError, sanitize
from rvc_jax.weights.torch_writer import ALIGNMENT, TORCH_DTYPES

MAX_PROGRAM_BYTES = 256_000_000
"""Limit for the pickle itself; the tensors' bytes are beside it."""
_MAX_READS = 1_000_000
"""Limit for the pieces that a pickle is read in: a tensor takes some 60. They take 1 s here, and
250 MB if every one makes an empty set."""
_MAX_LINE_BYTES = 1_000_000
_MAX_DEPTH = 200
_MAX_ITEMS = 20_000_000
"""Limit for what the result has when it is written out in full."""

_CONTAINERS = (list, tuple, dict, OrderedDict, set, frozenset)
_COPIED = (list, tuple, str, bytes)
_WITH_KEYS = (dict, OrderedDict, set, frozenset)
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


Placeholders = bool | Callable[[str], bool]
"""Which names of unknown classes become `Opaque` records: all, none, or by a function."""


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


class NotPyTorchError(Exception):
    """The file is of another kind, or of one that is not supported."""


class DamagedError(Exception):
    """What the file says can't be true."""


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


class _Program:
    """The bytes of a pickle, of which an instruction can only have what is there."""

    def __init__(self, file: IO[bytes]):
        self._read = file.read
        self._readline = file.readline
        self._reads = 0
        self._bytes = 0

    def read(self, count: int) -> bytes:
        data = self._read(count) if count <= MAX_PROGRAM_BYTES else b""
        if len(data) != count:
            raise EOFError("it ends in the middle of an instruction")
        self._reads += 1
        self._bytes += count
        if self._reads > _MAX_READS or self._bytes > MAX_PROGRAM_BYTES:
            raise DamagedError("its description of the tensors is longer than can be true")
        return data

    def readline(self) -> bytes:
        line = self._readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError("it has a line without an end")
        self._reads += 1
        self._bytes += len(line)
        return line


def _check_nesting(result: Any) -> None:
    """Refuse containers that are nested deeper, or would be longer written out, than files have.

    What uses the result may then compare, print or copy it. `Opaque` records count as one item,
    and what they hold is checked by itself: objects may refer to each other in circles.

    Raises:
        DamagedError: The result is too deep or too large, or has a list that holds itself.
    """
    measured: dict[int, tuple[int, int]] = {}
    records: dict[int, Opaque] = {}
    _measure(result, measured, records)
    waiting = list(records.values())
    while waiting:
        record = waiting.pop()
        found: dict[int, Opaque] = {}
        for part in (record.args, record.state, record.items):
            _measure(part, measured, found)
        waiting += [record for key, record in found.items() if key not in records]
        records |= found


def _measure(
    root: Any, measured: dict[int, tuple[int, int]], records: dict[int, Opaque]
) -> None:
    """Add the items, written out, and the depth of a container and all in it to `measured`.

    `records` receives the `Opaque` records that are met.
    """
    entered = set()
    waiting = [root]
    while waiting:
        value = waiting[-1]
        if id(value) in measured:
            waiting.pop()
            continue
        children = _list_children(value, records)
        if id(value) not in entered:
            entered.add(id(value))
            if any(id(child) in entered and id(child) not in measured for child in children):
                raise DamagedError("it has a list that holds itself")
            waiting += children
            continue
        waiting.pop()
        total = 1 + (len(value) if type(value) in _CONTAINERS else 0)
        depth = 1
        for child in children:
            child_total, child_depth = measured[id(child)]
            total += child_total
            depth = max(depth, 1 + child_depth)
        if total > _MAX_ITEMS or depth > _MAX_DEPTH:
            raise DamagedError("its lists are nested deeper, or longer, than can be true")
        measured[id(value)] = total, depth


def _list_children(value: Any, records: dict[int, Opaque]) -> list[Any]:
    """Return the containers in a container. `records` receives the `Opaque` records in it."""
    if type(value) is Opaque:
        records[id(value)] = value
    if type(value) not in _CONTAINERS:
        return []
    # A dict's own keys are plain, or records.
    items: Any = (*value, *value.values()) if isinstance(value, dict) else value
    records.update((id(item), item) for item in items if type(item) is Opaque)
    return [item for item in items if type(item) in _CONTAINERS]


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys of dicts and members of sets that are not plain.

    The hash of tuples in tuples, or of a number of megabytes, can take for ever.
    """
    for key in keys:
        is_plain = type(key) in _KEY_TYPES or type(key) is Opaque
        is_huge = type(key) is int and key.bit_length() > 64
        if not is_plain or is_huge:
            raise DamagedError("it has a key that is neither a text nor a number of usual size")


# typeshed knows little of it, and pickle's own dispatch holds any callable.
_PythonUnpickler: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


def _check_keys_before(instruction: Callable, of_marked: bool, every: int) -> Callable:
    """Wrap an instruction with a check of the keys that it will use.

    Args:
      of_marked: Whether they are on the stack since the mark; a single item is its last two places.
      every: 2 for keys with values, 1 for members of a set.
    """

    def run(self: Unpickler) -> None:
        keys = self.stack[::every] if of_marked else self.stack[-2:-1]
        _check_keys(keys)
        instruction(self)
        if type(self.stack[-1]) not in (
            *_WITH_KEYS,
            Opaque,
        ):  # an item of an array would fill all of it
            raise DamagedError("it has a key for something that has no keys")

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


class Unpickler(_PythonUnpickler):
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
        super().__init__(_Program(file), encoding="utf-8")
        self.is_wanted = placeholders if callable(placeholders) else lambda name: placeholders
        self.path = path
        self.size = size
        self.load_storage = load_storage
        self.storages: dict[str, np.ndarray] = {}
        self.claimed = 0
        self.copied = 0

    def load(self) -> Any:
        """Return what the pickle describes."""
        result = super().load()
        _check_nesting(result)
        return result

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
            raise DamagedError("it refers to something other than a storage")
        _, kind, key, _, elements, *view = list(reference)
        if view not in ([], [None]):
            raise NotPyTorchError(
                "views of storages, as written before torch 0.4, are not supported"
            )
        if type(kind) is not Opaque or kind.name not in _STORAGES:
            raise NotPyTorchError("it has a storage of a kind that is not supported")
        dtype = _STORAGES[kind.name]
        if type(key) is not str or type(elements) is not int or elements < 0:
            raise DamagedError("a reference to a storage makes no sense")
        nbytes = elements * dtype.itemsize
        if nbytes > self.size:
            raise DamagedError("a tensor claims to be larger than the file")
        if key not in self.storages:
            self.storages[key] = self.load_storage(key, elements, dtype.itemsize)
        if self.storages[key].nbytes != nbytes:
            raise DamagedError(f"the storage {sanitize(key)} has two lengths")
        return _Storage(self.storages[key], dtype)

    def _call(self) -> None:
        """REDUCE and NEWOBJ: turn a named class or function and its arguments into a value."""
        args = self.stack.pop()
        target = self.stack.pop()
        if type(target) is not Opaque or type(args) is not tuple:
            raise DamagedError("it calls something that is not a function")
        call = _CALLS.get(target.name)
        if call:
            self._check_copies(args)
        value = call(*args) if call else Opaque(target.name, args)
        if type(value) is np.ndarray:
            self._check_claim(value)
        self.stack.append(value)

    def _check_copies(self, args: tuple) -> None:
        """Refuse calls that together copy far more than the file has: one text, a million times."""
        self.copied += sum(len(arg) for arg in args if type(arg) in _COPIED)
        if self.copied > self.size + ALIGNMENT:
            raise DamagedError("it makes copies that together are far larger than it")

    def _check_claim(self, array: np.ndarray) -> None:
        """Refuse tensors far larger than the file. Nothing is copied here, but callers copy."""
        if array.size > self.size:  # by strides of 0, a byte can claim to be a terabyte
            raise DamagedError("a tensor claims to be larger than the file")
        self.claimed += array.nbytes
        if self.claimed > _MAX_SHARING * self.size + ALIGNMENT:
            raise DamagedError(
                "its tensors share their storages so often that together they are far larger than "
                "it"
            )

    def _skip_frame(self) -> None:
        """FRAME: read its size alone, and not ahead; it may claim any."""
        self.read(8)

    def _set_state(self) -> None:
        """BUILD: record the attributes of an instance; drop those of state dicts (`_metadata`)."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Opaque:
            target.state = state
        elif type(target) is not OrderedDict:
            raise DamagedError("it sets attributes where there are none")

    dispatch = {  # noqa: RUF012  (as in the base class)
        **_allowed_instructions(),
        pickle.FRAME[0]: _skip_frame,
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
        raise NotPyTorchError(
            "it stores a tensor as a conjugate or negative view, which is not supported"
        )
    if type(storage) is not _Storage:
        raise DamagedError("a tensor has no storage")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise DamagedError("a tensor has no proper shape")
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or n < 0 or n.bit_length() > 63 for n in numbers):
        raise DamagedError("a tensor has no proper shape")
    dtype = dtype or storage.dtype
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    last = offset + sum(
        (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
    )
    if (last + 1) * dtype.itemsize > storage.data.nbytes:
        raise DamagedError(f"a tensor of shape {sanitize(shape)} does not fit its storage")
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
        raise DamagedError("a device has no proper name")
    return kind if index is None else f"{kind}:{index}"


def _container(kind: type) -> Callable[..., Any]:
    """Return a function that builds `kind` from a list or tuple: never from a number, a size."""

    def build(items: Any = ()) -> Any:
        if type(items) not in (list, tuple):
            raise DamagedError(f"a {kind.__name__} is made of something other than a list")
        if kind is OrderedDict:
            _check_keys(pair[0] for pair in items)
        elif kind is not bytes:
            _check_keys(items)
        return kind(items)

    return build


def _encode(text: str, encoding: str) -> bytes:
    """Decode bytes as protocol 2 writes them."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise DamagedError("bytes are spelled in an unknown way")
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
