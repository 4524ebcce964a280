"""Our own files and folders: what they hold, and how broken ones are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public_files import small_voice
from voice_refusal import refusal

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import native
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice
from rvc_jax.weights import safetensors_file


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice()


HEADERS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "is damaged"),
    "deep JSON": ("[" * 100_000, "is damaged"),
    "a list": ([], "is damaged"),
    "no sizes": ({"generator": None}, "is damaged"),
    "an unknown size": ({"generator.depth": 3}, "is damaged"),
    "a text for rates": ({"generator.upsample_rates": "abcd"}, "can't be a size"),
    "no rates": ({"generator.upsample_rates": []}, "is not possible"),
    "a million layers": ({"generator.attention_layers": 1_000_000}, "more layers"),
    "lists in lists": ({"generator.resblock_dilations": [[[1]]]}, "can't be a size"),
    "numbers for lists": ({"generator.resblock_dilations": 5}, "can't be a size|is damaged"),
    "pitch as a number": ({"generator.has_pitch": 1}, "can't be a size"),
    "pitch that is not there": (
        {"generator.has_pitch": False},
        "parts that RVC's network lacks",
    ),
    "a rate of 0": ({"audio.sample_rate": 0}, "can't be a size"),
    "version 3": ({"version": "v3"}, "is damaged"),
    "a list for a version": ({"version": []}, "is damaged"),
    "an encoder without a name": ({"content_encoder": None}, "is damaged"),
    "no speakers": ({"speakers": []}, "is damaged"),
    "numbers for speakers": ({"speakers": [1]}, "is damaged"),
    "facts in a text": ({"facts": "none"}, "is damaged"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_broken_native_files_are_refused(tmp_path: Path, voice: VoiceModel, case: str) -> None:
    change, message = HEADERS[case]
    told = json.loads(json.dumps(native.describe(voice)))
    for name, value in change.items() if isinstance(change, dict) else ():
        outer, _, inner = name.partition(".")
        if inner:
            told[outer][inner] = value
        else:
            told[outer] = value
    text = told if isinstance(change, dict) else change
    texts = (
        {native.METADATA_KEY: text if isinstance(text, str) else json.dumps(text)}
        if text is not None
        else {}
    )
    path = tmp_path / "voice.safetensors"
    safetensors_file.write(path, voice.weights, texts)
    found = refusal(path)
    assert re.search(message, found), found


def test_native_files_cut_short_are_refused(tmp_path: Path, voice: VoiceModel) -> None:
    path = tmp_path / "voice.safetensors"
    native.write(path, voice)
    whole = path.read_bytes()
    for length in (9, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged" in refusal(path)
    safetensors_file.write(
        path, {"encoder.layers.0.self_attn.k_proj.weight": np.zeros(1, np.float32)}
    )
    assert "a content encoder" in refusal(path)


DESCRIPTIONS = {
    "no JSON": (b"{", "is damaged: it is not JSON"),
    "deep JSON": (b"[" * 100_000, "is damaged"),
    "a list": (b"[]", "another program's"),
    "another program's": (b'{"format": "voice"}', "another program's"),
    "too long": (b" " * 2_000_000, "more than 1 MB"),
    "binary": (b"\xff\xfe\x00", "is damaged"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_broken_folders_are_refused(tmp_path: Path, case: str) -> None:
    content, message = DESCRIPTIONS[case]
    (tmp_path / "voice.json").write_bytes(content)
    assert message in refusal(tmp_path, native.read_description)


INDEXES: dict[str, tuple[Any, str]] = {
    "another width": (
        np.zeros((9, 256), np.float16),
        "256 channels, the voice's have 768: it belongs to another",
    ),
    "one dimension": (np.zeros(768, np.float16), "not an array of numbers"),
    "no rows": (np.zeros((0, 768), np.float16), "not an array of numbers"),
    "texts": (np.array([["a", "b"]]), "not numbers"),
    "objects": (np.array([{}, []], object), "not an array of NumPy, or damaged"),
    "not finite": (np.full((9, 768), np.nan, np.float16), "not finite"),
    "text": (b"rows", "not an array of NumPy, or damaged"),
    "a terabyte": (
        b"\x93NUMPY\x01\0v\0"
        + b"{'descr': '<f2', 'fortran_order': False, 'shape': (999999999, 768), }".ljust(117)
        + b"\n",
        "not an array of NumPy, or damaged",
    ),
}


@pytest.mark.parametrize("case", INDEXES)
def test_broken_indexes_are_refused(tmp_path: Path, voice: VoiceModel, case: str) -> None:
    content, message = INDEXES[case]
    native.write_folder(tmp_path / "ada", voice)
    path = tmp_path / "ada" / "index.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(UserError) as caught:
        open_voice(tmp_path / "ada")
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_appears_whole_or_not_at_all(
    tmp_path: Path, voice: VoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr(native, "write_json", full)
        native.write_folder(tmp_path / "ada", voice)
    assert list(tmp_path.iterdir()) == []
    indexed = dataclasses.replace(voice, index=np.ones((9, 768), np.float32))
    native.write_folder(tmp_path / "ada", indexed)
    with pytest.raises(UserError, match="exists already"):
        native.write_folder(tmp_path / "ada", voice)
    model = open_voice(tmp_path / "ada")
    assert model.index.dtype == np.float16 and model.index.shape == (9, 768)
    bare = {"weights": {}, "facts": {}, "index": None, "index_name": None}
    assert dataclasses.replace(model, **bare) == dataclasses.replace(voice, **bare)
    assert sorted(path.name for path in (tmp_path / "ada").iterdir()) == [
        "index.npy",
        "model.safetensors",
        "voice.json",
    ]
