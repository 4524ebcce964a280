"""Weights and settings of models that are damaged, lie about their sizes, or are made to keep a
reader busy."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import hostile_audio
import numpy as np

from rvc_jax.features.content.hubert_weights import CONV_KERNELS
from rvc_jax.weights import torch_file

_START = b"\x80\x02"
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
_LEGACY_HEADS = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


@functools.cache
def files() -> dict[str, bytes]:
    """Files for `torch_file.read` and `safetensors_file.read` by name."""
    made: dict[str, bytes] = {}
    for name, (program, storages) in _programs().items():
        made[f"{name}.pth"] = in_zip(program, storages)
        if len(program) < 100_000:
            made[f"{name}, legacy.pt"] = in_legacy(program)
            made[f"{name}, placeholders.bin"] = in_zip(program, storages)
    for name, keys in _storage_keys().items():
        made[f"{name}, legacy keys.pt"] = in_legacy(_START + b"}.", keys)
    made |= {f"{name}.pth": content for name, content in _archives().items()}
    made |= {f"{name}.safetensors": content for name, content in _safetensors().items()}
    return made | _damaged()


def folders(root: Path) -> None:
    """Puts folders for `hubert_weights.load` into one."""
    for name, (config, state) in _huberts():
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_bytes(
            config if isinstance(config, bytes) else json.dumps(config).encode()
        )
        if isinstance(state, bytes):
            (folder / "model.safetensors").write_bytes(state)
        else:
            torch_file.write(folder / "pytorch_model.bin", state)
    (root / "no config").mkdir()
    (root / "a folder for a config" / "config.json").mkdir(parents=True)
    (root / "a config that is itself").mkdir()
    (root / "a config that is itself" / "config.json").symlink_to("config.json")
    (root / "a folder for weights").mkdir()
    (root / "a folder for weights" / "config.json").write_text(json.dumps(_CONFIG))
    (root / "a folder for weights" / "model.safetensors").mkdir()


def in_zip(
    program: bytes, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    """A file as torch writes it, of a given pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def in_legacy(program: bytes, keys: bytes = pickle.dumps([], 2)) -> bytes:
    """A file as torch wrote it before 1.6, of given pickles, with no storage behind it."""
    return b"".join(pickle.dumps(head, 2) for head in _LEGACY_HEADS) + program + keys


def _spelt(value: object) -> bytes:
    """The instructions that put a value onto the stack."""
    return pickle.dumps(value, 2)[2:-1]


def _long(content: bytes) -> bytes:
    """An integer of so many bytes."""
    return b"\x8b" + struct.pack("<i", len(content)) + content


def _tensor(shape: bytes, strides: bytes, elements: int = 6, key: str = "0") -> bytes:
    kind = _spelt("storage") + b"ctorch\nFloatStorage\n"
    storage = b"(" + kind + _spelt(key) + _spelt("cpu") + _spelt(elements) + b"tQ"
    return (
        _TENSOR
        + b"("
        + storage
        + _spelt(0)
        + shape
        + strides
        + _spelt(False)
        + _spelt(None)
        + b"tR"
    )


def _storage_keys() -> dict[str, bytes]:
    """Lists of storage keys for the legacy format, which hold other things than texts."""
    laughs = b")" + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(100))
    lists = {
        "tuples of tuples": b"(" + laughs + b"t",
        "a set of tuples of tuples": b"\x8f(" + laughs + b"\x90",
        "deep tuples of storages": b"(" + b")" + b"\x85" * 300_000 + b"t",
        "numbers for storages": b"(K\x01K\x02l",
        "a text of storages": _spelt("abc"),
        "a dictionary of storages": b"}",
        "no storages": b"N",
        "a list with itself": b"]q\0h\0a",
        "a long number of a storage": b"](" + _long(b"\x7f" * 1_000_000) + b"e",
    }
    return {name: _START + value + b"." for name, value in lists.items()}


def _programs() -> dict[str, tuple[bytes, dict[str, bytes]]]:
    """Pickles, and the storages that they need."""
    # Every tuple holds the one before twice: 2^100 tuples, to whoever looks at all.
    laughs = b")" + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(100))
    deep = b")" + b"\x85" * 1_000_000
    big = _long(b"\x7f" * 5_000_000)
    many = b"\x8a\x08" + struct.pack("<q", 2**62) + b"q\x000(" + b"h\x00" * 500_000 + b"t"
    six = {"0": bytes(24)}
    kilobytes = {"0": bytes(4_000_000)}
    shared = b"".join(
        _tensor(_spelt((1_000_000,)), _spelt((1,)), 1_000_000) for _ in range(500)
    )
    values = {
        "nothing": b"",
        "a stop alone": b".",
        "tuples of tuples": laughs,
        "tuples of tuples for a key": b"}" + laughs + b"Ns",
        "tuples of tuples for keys": b"}(" + laughs + b"Nu",
        "tuples of tuples in a set": b"c__builtin__\nset\n(]" + laughs + b"atR",
        "tuples of tuples in a frozen set": b"(" + laughs + b"\x91",
        "tuples of tuples in a dictionary": b"ccollections\nOrderedDict\n(]"
        + laughs
        + b"N\x86atR",
        "tuples of tuples for a shape": _tensor(laughs, laughs),
        "tuples of tuples for a name": b"(" + laughs + laughs + b"tQ",
        "a deep tuple": deep,
        "a deep tuple for a key": b"}" + deep + b"Ns",
        "deep lists": b"]" * 300_000 + b"a" * 299_999,
        "a list in itself": b"]q\0h\0a",
        "a dictionary in itself": b"}q\0(U\1ah\0u",
        "copies of a text": b"X\0\0\1\0"
        + b"a" * 65536
        + b"q\0X\6\0\0\0latin1q\1"
        + b"c_codecs\nencode\nq\x02"
        + b"h\x02h\0h\1\x86R" * 100_000,
        "sets of a list": b"("
        + b"K\1" * 65536
        + b"lq\0"
        + b"c__builtin__\nset\nq\x02"
        + b"h\x02h\0\x85R" * 100_000,
        "empty sets": b"\x8f" * 3_000_000,
        "a key for a tensor": _tensor(_spelt((6,)), _spelt((1,))) + b"NK\1s",
        "calls of calls": b"cany.tool\nThing\nq\0)" + b"R" * 500_000,
        "things in things": b"cany.tool\nThing\nq\0" + b")\x85Rh\0\x85" * 300_000,
        "a tuple in itself": b"(]q\0tq\x010h\0h\x01a",
        "a set of lists": b"\x8f(]\x90",
        "a list for a key": b"}]Ns",
        "many marks": b"(" * 1_000_000,
        "many dictionaries": b"}" * 3_000_000,
        "many names": b"".join(b"r" + struct.pack("<I", 2**31 - i) for i in range(1000)).join(
            [b"N", b""]
        ),
        "a memo of nothing": b"h\x07",
        "a memo far away": b"j\xff\xff\xff\xff",
        "a memo of letters": b"Nphello\n",
        "a number of 5 MB": big,
        "a number of 5 MB for a key": b"}" + big + b"Ns",
        "a number of many digits": b"I" + b"9" * 100_000 + b"\n",
        "a long of many digits": b"L" + b"9" * 100_000 + b"L\n",
        "a float of many digits": b"F" + b"9" * 100_000 + b"\n",
        "a text of 4 GB": b"X\xff\xff\xff\xff",
        "a text of 2^60": b"\x8d" + struct.pack("<Q", 2**60),
        "bytes of 2^33": b"\x8e" + struct.pack("<Q", 2**33),
        "bytes of 2^63": b"\x8e" + struct.pack("<Q", 2**63),
        "bytes of a negative length": b"T\xff\xff\xff\xff",
        "a number of a negative length": b"\x8b\xff\xff\xff\xff",
        "a frame of 2^33": b"\x95" + struct.pack("<Q", 2**33) + b"N",
        "a frame of 2^63": b"\x95" + struct.pack("<Q", 2**63) + b"N",
        "an endless line": b"c" + b"x" * 3_000_000,
        "text that is none": b"X\4\0\0\0\xff\xfe\xed\xa0",
        "half a surrogate for a key": b"}X\3\0\0\0\xed\xa0\x80Ns",
        "a name of 1 MB": b"c" + b"x" * 1_000_000 + b"\ny\n",
        "a command": b"cposix\nsystem\n(X\x0c\0\0\0touch fuzzedtR",
        "an import": b"cantigravity\nfly\n",
        "an instance": b"(X\6\0\0\0fuzzediposix\nsystem\n",
        "an unknown instruction": b"\xf0",
        "an extension": b"\x82\x01",
        "a buffer from outside": b"\x97",
        "a byte array of 2^60": b"\x96" + struct.pack("<Q", 2**60),
        "2^62 in many dimensions": _tensor(many, many),
        "dimensions of 5 MB": _tensor(b"(" + big + b"q\x01h\x01t", b"(h\x01h\x01t"),
        "strides of 5 MB": _tensor(_spelt((2, 2)), b"(" + big + b"q\x01h\x01t"),
        "a dimension below zero": _tensor(_spelt((-1,)), _spelt((1,))),
        "a tensor of 2^62": _tensor(_spelt((2**62,)), _spelt((0,))),
        "a tensor of 2^62 by 0": _tensor(_spelt((2**62, 0)), _spelt((0, 0))),
        "an empty tensor of many dimensions": _tensor(_spelt((0,) * 100), _spelt((0,) * 100)),
        "a storage of 2^62": _tensor(_spelt((1,)), _spelt((1,)), 2**62),
        "a storage of 5 MB digits": _tensor(_spelt((1,)), _spelt((1,))).replace(
            _spelt(6), big, 1
        ),
        "a storage elsewhere": _tensor(_spelt((1,)), _spelt((1,)), key="../../../etc/passwd"),
        "a tensor for a storage": _TENSOR + b"(NK\0))\x89Nt" + b"R",
        "five hundred tensors in one storage": b"(" + shared + b"t",
        "bytes by their number": b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR",
        "a complex of text": b"c__builtin__\ncomplex\n(U\3abctR",
        "a device of tuples": b"ctorch\ndevice\n(" + laughs + b"tR",
        "a size of tuples": b"ctorch\nSize\n(" + laughs + b"tR",
        "bytes in a strange coding": b"c_codecs\nencode\n(X\1\0\0\0aX\3\0\0\0hextR",
    }
    return {
        name: (_START + value + b".", kilobytes if "five hundred" in name else six)
        for name, value in values.items()
    }


def _archives() -> dict[str, bytes]:
    whole = in_zip(_START + _tensor(_spelt((6,)), _spelt((1,))) + b".", {"0": bytes(24)})
    million = _START + _tensor(_spelt((10**6,)), _spelt((1,)), 10**6) + b"."
    nested = whole
    for _ in range(20):
        nested = in_zip(nested)
    listing = io.BytesIO()
    with zipfile.ZipFile(listing, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"archive/data/{number}", b"")
    return {
        "a bomb": in_zip(_START + b"N." + bytes(50_000_000), method=zipfile.ZIP_DEFLATED),
        "a bomb of tensors": in_zip(million, {"0": bytes(4_000_000)}, zipfile.ZIP_DEFLATED),
        "archives in archives": nested,
        "thousands of members": listing.getvalue(),
        "a list of members of 4 GB": whole[:-10] + b"\xff\xff\xff\xff" + whole[-6:],
        "65535 members": whole[:-14] + b"\xff\xff\xff\xff" + whole[-10:],
        "members of 4 GB": whole.replace(struct.pack("<II", 24, 24), b"\xfe\xff\xff\xff" * 2),
        "a locator of 2^63": whole[:-22]
        + b"PK\6\7"
        + struct.pack("<IQI", 0, 2**63 - 1, 1)
        + whole[-22:],
        "a comment of 64 KB": whole[:-2] + b"\xff\xff" + bytes(65535),
        "an end without an archive": b"PK\5\6" + bytes(18),
        "a beginning without an archive": b"PK\3\4" * 1000,
        "many ends": whole + whole[-22:] * 1000,
    }


def _safetensors() -> dict[str, bytes]:
    def packed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def tensor(
        shape: object, end: object = 4, dtype: object = "F32", begin: object = 0
    ) -> dict[str, object]:
        return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}

    most = 2**47
    return {
        "a header of 2^64": packed({}, length=2**64 - 1),
        "a header of 1 GB": packed({}, length=2**30),
        "a header of spaces": packed(b"{}" + b" " * 4_000_000),
        "a header of brackets": packed(b"[" * 4_000_000),
        "a header of braces": packed(b'{"a":' * 1_000_000),
        "a header of one text": packed(b'{"' + b"a" * 4_000_000 + b'":0}'),
        "a header of one number": packed(b'{"a":' + b"9" * 4_000_000 + b"}"),
        "a header of numbers": packed(b'{"a":[' + b"9," * 2_000_000 + b"9]}"),
        "a header of nothing": packed(b"\0" * 100),
        "a header of NaN": packed(
            b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)
        ),
        "a header of infinity": packed(
            b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', bytes(4)
        ),
        "many empty tensors": packed(
            {
                str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                for n in range(50_000)
            }
        ),
        "many dimensions": packed(tensor([1] * 1000), bytes(4)),
        "2^47 in many dimensions": packed(tensor([most] * 500_000, most), bytes(4)),
        "an empty one of many dimensions": packed(tensor([0] + [most] * 60, 0)),
        "a tensor of 2^47": packed(tensor([most], 4 * most), bytes(4)),
        "a tensor of 2^64": packed(tensor([2**64], 2**66), bytes(4)),
        "a tensor below zero": packed(tensor([-1], -4), bytes(4)),
        "a tensor of truth": packed(tensor([True]), bytes(4)),
        "a tensor of half": packed(tensor([0.5]), bytes(4)),
        "a tensor of text": packed(tensor("1"), bytes(4)),
        "a tensor of lists": packed(tensor([[1]]), bytes(4)),
        "a tensor behind the end": packed(tensor([1], 2**40 + 4, begin=2**40), bytes(4)),
        "a type of nothing": packed(tensor([1], dtype=None), bytes(4)),
        "a type of lists": packed(tensor([1], dtype=[["F32"]]), bytes(4)),
        "a type of four bits": packed(tensor([8], dtype="F4"), bytes(4)),
        "a list for a header": packed([1, 2, 3]),
        "a number for a header": packed(7),
        "a name of letters that are none": packed(b'{"\xff\xfe":{}}'),
        "a name that steers a terminal": packed({"\x1b[2J\x1b]0;title\x07": 1}),
        "two of one name": packed(b'{"a":1,"a":2}'),
    }


def _damaged() -> dict[str, bytes]:
    """A proper file of each kind in its damaged versions."""
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    ).encode()
    whole = {
        "zipped.pth": in_zip(
            _START + _tensor(_spelt((6,)), _spelt((1,))) + b".", {"0": bytes(24)}
        ),
        "legacy.pt": in_legacy(pickle.dumps({"settings": [1, 2.5, "text", (None, True)]}, 2)),
        "plain.safetensors": struct.pack("<Q", len(header)) + header + bytes(24),
    }
    made = {}
    for name, content in whole.items():
        stem, _, ending = name.rpartition(".")
        for length in range(0, len(content), max(len(content) // 10, 1)):
            made[f"{stem} of {length} bytes.{ending}"] = content[:length]
        for number in range(20):
            made[f"{stem} damaged {number}.{ending}"] = hostile_audio.mutated(content, number)
    return made


_CONFIG = {"model_type": "hubert", "hidden_size": 64, "num_attention_heads": 1}


def _huberts() -> Iterator[tuple[str, tuple[object, object]]]:
    """(name, (config.json, state dict or bytes of a safetensors file)) of folders."""
    state = hubert_state()
    yield "small", (_CONFIG, state)
    configs: dict[str, object] = {
        "nothing": b"",
        "zeros": bytes(1000),
        "a list": [],
        "text": "hubert",
        "null": None,
        "no utf-8": b'{"a":"\xff\xfe"}',
        "brackets": b"[" * 1_000_000,
        "braces": b'{"a":' * 200_000,
        "a long number": b'{"hidden_size":' + b"9" * 100_000 + b"}",
        "large": b'"' + b"a" * 2_000_000 + b'"',
        "steers": {"model_type": "\x1b[2J\n\x1b]0;title\x07"},
        "10^400 heads": {"num_attention_heads": 10**400, "hidden_size": 64 * 10**400},
        "negative": {"hidden_size": -64, "num_attention_heads": -1},
        "half": {"hidden_size": 32.0, "num_attention_heads": 0.5},
        "NaN": {"hidden_size": float("nan"), "layer_norm_eps": float("nan")},
        "true": {"num_attention_heads": True},
        "lists": {"conv_kernel": [[[10]]], "conv_stride": [10**100] * 7},
        "many": {"conv_kernel": [10**9] * 10_000},
        "another": {"model_type": "wav2vec2"},
        "a program": {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"},
    }
    for name, config in configs.items():
        yield (
            f"config {name}",
            (_CONFIG | config if isinstance(config, dict) else config, state),
        )
    half = {name: array.astype(np.float16) for name, array in state.items()}
    large = np.zeros((3000, 3000), np.float16)
    middle = "encoder.layers.{}.feed_forward.intermediate_dense.weight"
    states: dict[str, object] = {
        "of whole numbers": {name: array.astype(np.int64) for name, array in state.items()},
        "of complex numbers": {
            name: array.astype(np.complex64) for name, array in state.items()
        },
        "of NaN": {name: array * np.nan for name, array in state.items()},
        "of a thousand layers": hubert_state(1000),
        "of layer 10^30": state | {middle.format(10**30): state[middle.format(0)]},
        "of layer minus one": state | {middle.format(-1): state[middle.format(0)]},
        "of a layer in other digits": state | {middle.format("٣"): state[middle.format(0)]},
        "of layers far apart": state | {middle.format(10**6): state[middle.format(0)]},
        "of 300 layers in one storage": half
        | {middle.format(layer): large for layer in range(300)},
        "of no width": state
        | {"feature_projection.projection.weight": np.zeros((0, 8), np.float32)},
        "of a width of 63": state
        | {"feature_projection.projection.weight": np.zeros((63, 8), np.float32)},
        "of no dimensions": {name: np.float32(1) for name in state},
        "of nine dimensions": {
            name: array.reshape(*(1,) * 9, -1) for name, array in state.items()
        },
        "without a bias": {
            name: array for name, array in state.items() if not name.endswith("out_proj.bias")
        },
        "with a projection of one": state | {"final_proj.weight": np.zeros(3, np.float32)},
        "of zero norm": state
        | {"encoder.pos_conv_embed.conv.weight_g": np.zeros((1, 1, 16), np.float32)},
        "of numbers for names": {number: array for number, array in enumerate(state.values())},
        "of texts": dict.fromkeys(state, "text"),
        "of lists": {"model": [state]},
        "of nothing": {},
        "none": None,
        "a number": 7,
        "within a model within a model": {"model": {"model": state}},
        "of garbage": b"garbage" * 100,
        "of a header of 1 GB": struct.pack("<Q", 2**30) + b"{}",
    }
    for name, content in states.items():
        yield f"weights {name}", (_CONFIG, content)


def hubert_state(layers: int = 1) -> dict[str, np.ndarray]:
    """A HuBERT of 64 channels in transformers' layout."""
    width = 64
    channels = 8
    hidden = 32
    taps = 16
    state: dict[str, np.ndarray] = {}

    def dense(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = np.full(shape, 0.01, np.float32)
        state[f"{name}.bias"] = np.zeros(shape[0], np.float32)

    for i, kernel in enumerate(CONV_KERNELS):
        convolution = np.full((channels, channels if i else 1, kernel), 0.01, np.float32)
        state[f"feature_extractor.conv_layers.{i}.conv.weight"] = convolution
    dense("feature_extractor.conv_layers.0.layer_norm", channels)
    dense("feature_projection.layer_norm", channels)
    dense("feature_projection.projection", width, channels)
    dense("encoder.pos_conv_embed.conv", width)
    del state["encoder.pos_conv_embed.conv.weight"]
    state["encoder.pos_conv_embed.conv.weight_g"] = np.ones((1, 1, taps), np.float32)
    state["encoder.pos_conv_embed.conv.weight_v"] = np.ones(
        (width, width // 16, taps), np.float32
    )
    dense("encoder.layer_norm", width)
    for layer in range(layers):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            dense(f"encoder.layers.{layer}.attention.{part}", width, width)
        dense(f"encoder.layers.{layer}.layer_norm", width)
        dense(f"encoder.layers.{layer}.final_layer_norm", width)
        dense(f"encoder.layers.{layer}.feed_forward.intermediate_dense", hidden, width)
        dense(f"encoder.layers.{layer}.feed_forward.output_dense", width, hidden)
    return state
