"""Files that are not voices are refused in one line that says what they are and what to do."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public_files import Call, small_voice, write
from voice_refusal import refusal

from rvc_jax.voices.formats.sniff import sniff_names
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice()


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
def test_other_files_are_named(tmp_path: Path, case: str) -> None:
    content, message = FILES[case]
    path = tmp_path / "voice.pth"
    path.write_bytes(content)
    text = refusal(path)
    assert re.search(message, text), text


def test_missing_files_and_folders(tmp_path: Path) -> None:
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
def test_other_models_are_named(tmp_path: Path, case: str) -> None:
    content, message = CONTENTS[case]
    text = refusal(write(tmp_path / "voice.pth", content))
    assert re.search(message, text), text


def test_voices_are_not_mistaken_for_other_models(voice: VoiceModel) -> None:
    whole = small_voice(posterior=True).weights
    assert sniff_names(whole) is None and sniff_names(voice.weights) is None
