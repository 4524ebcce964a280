"""What is no voice, or a broken one, is refused in one line that says what it is and what to do."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public_files import TUPLES_OF_TUPLES, Call, applio, checkpoint, classic, small_voice, write

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import native, pth_reader
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice
from rvc_jax.weights import safetensors_file


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice()


def read_file(path: Path) -> VoiceModel:
    is_safetensors = path.suffix == ".safetensors"
    return native.read(path) if is_safetensors else pth_reader.read(path)


def refusal(path: Path, read: Callable[[Path], Any] = read_file) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text and text.isprintable() and len(text) < len(str(path)) + 500
    return text.replace(str(path), "PATH")


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("voice.pth"), io.BytesIO())
    return buffer.getvalue()


FILES: dict[str, tuple[bytes, str]] = {
    "a web page": (
        b"<!DOCTYPE html><html><title>Sign in</title>",
        "a web page.*download the file itself",
    ),
    "a web page after blanks": (b"\n\n  <html>", "a web page"),
    "an answer in XML": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "Git LFS.*git lfs pull",
    ),
    "RAR": (b"Rar!\x1a\x07\x01\x00", "a RAR archive; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    "gzip": (b"\x1f\x8b\x08", "archive; unpack it"),
    "xz": (b"\xfd7zXZ\x00", "archive; unpack it"),
    "tar": (tar(), "a tar archive; unpack it"),
    "an index": (b"IwFl" + bytes(100), "a retrieval index of faiss.*--index"),
    "a flat index": (b"IxF2" + bytes(100), "a retrieval index of faiss.*--index"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "an ONNX graph.*name the .pth"),
    "ONNX of another writer": (b"\x08\x07:\xd0\x01", "an ONNX graph"),
    "WAV": (b"RIFF\0\0\0\0WAVEfmt ", "a recording"),
    "FLAC": (b"fLaC\0\0\0\x22", "a recording"),
    "MP3": (b"ID3\x04\0\0", "a recording"),
    "MP4": (b"\0\0\0\x20ftypisom", "a recording"),
    "an array": (b"\x93NUMPY\x01\0", "an array of NumPy.*--index"),
    "GGUF": (b"GGUF\x03\0\0\0", "GGUF"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "PNG": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "PDF": (b"%PDF-1.7", "a PDF document"),
    "a program of Windows": (b"MZ\x90\0", "a program.*don't start this"),
    "a program of Linux": (b"\x7fELF\x02", "a program"),
    "settings": (b'{"train": {"epochs": 20000}}', "a JSON text"),
    "zeros": (bytes(5000), "zeros.*download it again"),
    "nothing": (b"", "empty.*download it again"),
    "text": (b"buy milk", "not a PyTorch file"),
    "noise": (np.random.default_rng(0).bytes(5000), "not a PyTorch file"),
    "a plain pickle": (pickle.dumps([1, 2]), "not a PyTorch file"),
    "a pickle that would run a command": (
        b"cposix\nsystem\n(S'id'\ntR.",
        "names `posix.system`.*refused",
    ),
    "a zip of documents": (archive(a_txt=b"hello"), "a zip archive.*give it as it is"),
    "a zip of a voice": (
        archive(voice_pth=b"", added_index=b""),
        "a zip archive.*give it as it is",
    ),
    "TorchScript": (
        archive(m__data_pkl=pickle.dumps({}), m__constants_pkl=b""),
        "a TorchScript program",
    ),
    "a voice cut short": (
        archive(m__data_pkl=pickle.dumps({"weight": {}}))[:60],
        "damaged|not a PyTorch file",
    ),
    "a command in a voice": (
        archive(m__data_pkl=b"cposix\nsystem\n(S'id'\ntR."),
        "names `posix.system`.*refused",
    ),
    "a command among others": (
        archive(m__data_pkl=b"}(S'a'\ncsubprocess\nPopen\n(S'id'\ntRu."),
        "names `subprocess.Popen`.*refused",
    ),
    "code in a voice": (
        archive(m__data_pkl=b"c__builtin__\neval\n(S'1'\ntR."),
        "names `builtins.eval`.*refused",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_told(tmp_path: Path, case: str) -> None:
    content, message = FILES[case]
    path = tmp_path / "voice.pth"
    path.write_bytes(content)
    text = refusal(path)
    assert re.search(message, text), text


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "gone.pth")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300 + ".pth"))
    assert "holds neither a run nor a voice" in refusal(tmp_path, open_voice)


def array(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


CONTENTS: dict[str, tuple[Any, str]] = {
    "a list": ([array(2)], "a list without anything of a voice"),
    "a number": (3, "a int without anything"),
    "an array": (array(3, 2), r"a single array of shape \(3, 2\)"),
    "an empty dictionary": ({}, "without weights"),
    "settings": ({"sr": "40k", "config": [1] * 18}, r"without weights \(it has sr, config\)"),
    "a whole object": (
        Call("infer.models.Generator", (1,)),
        "an object of the class infer.models.Generator",
    ),
    "D": (
        {"model": {"discriminators.0.convs.0.weight_v": array(1)}, "optimizer": {}},
        "a discriminator.*import G",
    ),
    "a state dict of D": ({"discriminators.1.conv_post.bias": array(1)}, "a discriminator"),
    "an optimizer": ({"state": {}, "param_groups": []}, "an optimizer's state.*G_"),
    "HuBERT": ({"encoder.layers.0.attention.k_proj.weight": array(1)}, "a content encoder"),
    "HuBERT of fairseq": (
        {"cfg": {}, "model": {"encoder.layers.0.self_attn.k_proj.weight": array(1)}},
        "a content encoder",
    ),
    "ContentVec": (
        {"hubert.feature_extractor.conv_layers.0.conv.weight": array(1)},
        "a content encoder",
    ),
    "RMVPE": ({"unet.encoder.bn.weight": array(1), "fc.0.gru.bias_hh_l0": array(1)}, "RMVPE"),
    "FCPE": ({"model": {"input_stack.0.weight": array(1)}, "config_dict": {}}, "FCPE"),
    "CREPE": ({"conv1_BN.bias": array(1)}, "a pitch model"),
    "so-vits-svc": (
        {
            "model": {
                "emb_uv.weight": array(1),
                "enc_p.enc_.attn_layers.0.conv_q.weight": array(1),
            }
        },
        "a so-vits-svc",
    ),
    "so-vits-svc 4": (
        {"model": {"enc_p.f0_emb.weight": array(1)}, "iteration": 1},
        "a so-vits-svc",
    ),
    "GPT-SoVITS": (
        {
            "weight": {"enc_p.ssl_proj.weight": array(1)},
            "config": {"data": {}},
            "info": "SoVITS_e8",
        },
        "GPT-SoVITS",
    ),
    "GPT of it": (
        {"weight": {"model.ar_text_embedding.weight": array(1)}, "config": {}},
        "GPT-SoVITS",
    ),
    "VITS": ({"model": {"enc_p.emb.weight": array(1)}}, "a text-to-speech model"),
    "DDSP": ({"model": {"unit_embed.weight": array(1)}}, "a diffusion model"),
    "UVR": ({"stg1_low_band_net.enc1.conv.weight": array(1)}, "takes the voice out of music"),
    "Stable Diffusion": (
        {"state_dict": {"model.diffusion_model.out.weight": array(1)}},
        "an image model",
    ),
    "RefineGAN by names": (
        {"weight": {"dec.upsample_conv_blocks.0.weight": array(1)}},
        "the vocoder RefineGAN",
    ),
    "MRF by names": ({"weight": {"dec.mrfs.0.0.weight": array(1)}}, "the vocoder MRF HiFi-GAN"),
    "RingFormer by names": (
        {"weight": {"dec.conformers.0.weight": array(1)}},
        "the vocoder RingFormer",
    ),
    "something else": (
        {"blocks.0.w": array(1), "blocks.1.w": array(1)},
        r"they are blocks\.0\.w, blocks\.1\.w",
    ),
    "names that steer": ({"\x1b[2J\u202e": array(1)}, "none of its arrays is one of RVC's"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_other_models_are_told(tmp_path: Path, case: str) -> None:
    content, message = CONTENTS[case]
    text = refusal(write(tmp_path / "voice.pth", content))
    assert re.search(message, text), text


def config(voice: VoiceModel, **entries: Any) -> dict[str, Any]:
    """A voice whose config has other entries, by their numbers."""
    values = to_config_list(voice)
    for number, value in entries.items():
        values[int(number[1:])] = value
    return classic(voice, config=values)


def weights(voice: VoiceModel, without: str = "", **changes: Any) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in voice.weights.items()
        if not (without and name.startswith(without))
    }
    return classic(
        voice, weight=kept | {name.replace("__", "."): value for name, value in changes.items()}
    )


VOICES: dict[str, tuple[Callable[[VoiceModel], Any], str]] = {
    "RefineGAN": (
        lambda voice: applio(voice, vocoder="RefineGAN"),
        "the vocoder RefineGAN.*opens in",
    ),
    "MRF": (lambda voice: applio(voice, vocoder="MRF HiFi-GAN"), "the vocoder MRF HiFi-GAN"),
    "RingFormer": (
        lambda voice: applio(voice, vocoder="RingFormer_v2"),
        "the vocoder RingFormer_v2",
    ),
    "VITS2": (
        lambda voice: applio(voice, vits2_mode=True),
        r"a fork's own architecture \(vits2_mode\)",
    ),
    "a vocoder's enumeration": (
        lambda voice: applio(
            voice, vocoder=Call("ultimate_rvc.typing_extra.Vocoder", ("RefineGAN",))
        ),
        "RefineGAN",
    ),
    "17 entries": (
        lambda voice: classic(voice, config=to_config_list(voice)[:17]),
        "17 entries, not 18",
    ),
    "no entry": (lambda voice: classic(voice, config=[]), "0 entries, not 18"),
    "blocks of kind 2": (
        lambda voice: config(voice, _9="2"),
        "residual blocks are of kind '2'",
    ),
    "a text for a size": (lambda voice: config(voice, _2="192"), "can't be a size"),
    "a number with a point": (lambda voice: config(voice, _3=8.0), "can't be a size"),
    "a negative size": (lambda voice: config(voice, _3=-8), "can't be a size"),
    "a list for a size": (lambda voice: config(voice, _2=[1]), "can't be a size"),
    "a number for a list": (lambda voice: config(voice, _12=10), "can't be a size"),
    "numbers for lists in a list": (
        lambda voice: config(voice, _11=[1, 2, 3]),
        "can't be a size",
    ),
    "a thousand million layers": (lambda voice: config(voice, _6=10**9), "can't be a size"),
    "a thousand layers": (lambda voice: config(voice, _6=1000), "more layers than any voice"),
    "a number of 100 digits": (lambda voice: config(voice, _3=10**60), "can't be a size"),
    "five heads": (lambda voice: config(voice, _5=5), "heads"),
    "four heads": (lambda voice: config(voice, _5=4), "attention heads 4, its weights have 2"),
    "other channels": (
        lambda voice: config(voice, _3=16),
        "hidden channels 16, its weights have 8",
    ),
    "other kernels": (
        lambda voice: config(voice, _14=[20, 16, 4, 4]),
        "upsample kernels .* its weights have",
    ),
    "other rates": (lambda voice: config(voice, _12=[10, 8, 2, 2]), "does not make 40000 Hz"),
    "rates in another order": (
        lambda voice: config(voice, _12=[10, 2, 10, 2]),
        "is not possible",
    ),
    "an odd rate": (
        lambda voice: config(voice, _12=[16, 5, 5, 1], _14=[16, 15, 15, 1]),
        "odd rate behind the first",
    ),
    "no rates": (lambda voice: config(voice, _12=[], _14=[]), "is not possible"),
    "other dilations": (
        lambda voice: config(voice, _11=[[1, 3]] * 3),
        "parts that RVC's network lacks",
    ),
    "an unknown rate": (lambda voice: config(voice, _17=11025), "does not make 11025 Hz"),
    "no rate at all": (
        lambda voice: classic(voice, sr=None, config=[*to_config_list(voice)[:17], None]),
        "can't be a size",
    ),
    "a layer is missing": (
        lambda voice: weights(voice, "dec.ups.1."),
        "layers are not numbered",
    ),
    "the last layer is missing": (
        lambda voice: weights(voice, "dec.ups.3."),
        "its weights have",
    ),
    "a bias is missing": (
        lambda voice: weights(voice, "enc_p.proj.bias"),
        "not whole: enc_p.proj.bias is missing",
    ),
    "the speakers are missing": (
        lambda voice: weights(voice, "emb_g."),
        "it has no emb_g.weight",
    ),
    "half of the pitch is missing": (
        lambda voice: weights(voice, "dec.m_source"),
        "not whole: dec.m_source",
    ),
    "something more": (
        lambda voice: weights(voice, dec__extra=array(1)),
        "lacks: dec.extra is unknown",
    ),
    "a layer of another shape": (
        lambda voice: weights(voice, dec__conv_post__weight=array(1, 2, 5)),
        r"\(1, 2, 5\), not \(1, 2, 7\)",
    ),
    "a table with one dimension": (
        lambda voice: weights(voice, emb_g__weight=array(3)),
        "1 dimensions, not 2",
    ),
    "a number that is none": (
        lambda voice: weights(voice, enc_p__proj__bias=np.full(8, np.nan, np.float32)),
        "8 of its numbers are not",
    ),
    "infinity": (
        lambda voice: weights(voice, enc_p__proj__bias=np.full(8, np.inf, np.float16)),
        "are not finite",
    ),
    "whole numbers": (
        lambda voice: weights(voice, enc_p__proj__bias=np.zeros(8, np.int64)),
        "is of int64",
    ),
    "complex numbers": (
        lambda voice: weights(voice, enc_p__proj__bias=np.zeros(8, np.complex64)),
        "of complex64",
    ),
    "features of 500 channels": (
        lambda voice: weights(voice, enc_p__emb_phone__weight=array(8, 500)),
        "500 channels.*--content-encoder",
    ),
    "an encoder of another width": (
        lambda voice: applio(voice, embedder_model="whisper-tiny"),
        "have 384",
    ),
    "an unknown encoder": (
        lambda voice: applio(voice, embedder_model="custom"),
        "'custom', which is not known",
    ),
    "a checkpoint of no preset": (
        lambda _: checkpoint(small_voice(upsample_kernels=(20, 20, 4, 4))),
        "no preset has its upsampling",
    ),
    "a checkpoint with other blocks": (
        lambda _: checkpoint(small_voice(resblock_kernels=(3,), resblock_dilations=((1,),))),
        "not those of 40k",
    ),
}


@pytest.mark.parametrize("case", VOICES)
def test_broken_voices_are_told(tmp_path: Path, voice: VoiceModel, case: str) -> None:
    make, message = VOICES[case]
    text = refusal(write(tmp_path / "voice.pth", make(voice)))
    assert re.search(message, text), text


@pytest.mark.parametrize(
    "key", ["version", "vocoder", "embedder_model", "sr", "f0", "speakers_id", "info", "other"]
)
def test_what_never_ends_is_no_setting(tmp_path: Path, voice: VoiceModel, key: str) -> None:
    """Of whatever a file says in the place of a text or a number, no more is looked at than one
    would have."""
    found = pth_reader.read(
        write(tmp_path / "voice.pth", applio(voice, **{key: TUPLES_OF_TUPLES}))
    )
    assert found.generator.hidden_channels == 8 and key not in found.facts


@pytest.mark.parametrize("entry", [*range(15), 16])
def test_what_never_ends_is_no_size(tmp_path: Path, voice: VoiceModel, entry: int) -> None:
    path = write(tmp_path / "voice.pth", config(voice, **{f"_{entry}": TUPLES_OF_TUPLES}))
    if entry in (1, 8):  # looked at by nobody
        pth_reader.read(path)
    else:
        assert "its config holds a value that can't be a size" in refusal(path) or entry == 9


HEADERS: dict[str, tuple[Any, str]] = {
    "none": (None, "does not describe a voice of rvc-jax"),
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
def test_broken_files_of_ours_are_told(tmp_path: Path, voice: VoiceModel, case: str) -> None:
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


def test_files_of_ours_that_are_cut_short(tmp_path: Path, voice: VoiceModel) -> None:
    path = tmp_path / "voice.safetensors"
    native.write(path, voice)
    whole = path.read_bytes()
    for length in (9, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged" in refusal(path)
    safetensors_file.write(path, {"encoder.layers.0.self_attn.k_proj.weight": array(1)})
    assert "a content encoder" in refusal(path)


DESCRIPTIONS = {
    "no JSON": (b"{", "is damaged: it is not JSON"),
    "deep JSON": (b"[" * 100_000, "is damaged"),
    "a list": (b"[]", "another program's"),
    "another program's": (b'{"format": "voice"}', "another program's"),
    "too long": (b" " * 2_000_000, "is damaged"),
    "binary": (b"\xff\xfe\x00", "is damaged"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_broken_folders_are_told(tmp_path: Path, case: str) -> None:
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
    "texts": (np.array([["a", "b"]]), "not an array of numbers"),
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
def test_broken_indexes_are_told(tmp_path: Path, voice: VoiceModel, case: str) -> None:
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


def test_no_name_of_a_voice_is_taken_for_another_model(voice: VoiceModel) -> None:
    from rvc_jax.voices.formats.sniff import sniff_names

    whole = small_voice(posterior=True).weights
    assert sniff_names(whole) is None and sniff_names(voice.weights) is None
