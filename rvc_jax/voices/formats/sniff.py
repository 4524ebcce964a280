"""Recognizes files that are not voices, by their first bytes or by the names of their arrays.

A user who names the wrong file learns what it is and what to do with it.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.models.vocoders import find_other_vocoder
from rvc_jax.storage.plain_files import open_plain

_HEAD_BYTES = 4096


class FileKind(NamedTuple):
    """A kind of file that is not a voice."""

    name: str
    """Completes "it is ..."."""
    advice: str
    """What to do instead."""


class NotAVoiceError(Exception):
    """A file holds something that is not a voice."""

    def __init__(self, name: str, advice: str):
        super().__init__(f"it is {name}; {advice}")
        self.kind = FileKind(name, advice)


@contextlib.contextmanager
def voice_errors(path: Path) -> Iterator[None]:
    """Turn what readers of voices raise into a UserError of one line that begins with the path."""
    try:
        yield
    except NotAVoiceError as error:
        raise UserError(f"{path} is not a voice: {error}") from None
    except ValueError as error:
        raise UserError(f"{path} is not a voice that can be opened: {error}") from None


_APPLIO_VOCODERS = ("RefineGAN", "MRF HiFi-GAN")
_UNPACK = "unpack it, and give the .pth that is in it"
_AGAIN = "it was not downloaded whole: download it again"

_HEADS: tuple[tuple[re.Pattern[bytes], FileKind], ...] = tuple(
    (re.compile(pattern, re.DOTALL), FileKind(*kind))
    for pattern, *kind in (
        (
            rb"\s*<(!|html|head|body|\?xml)",
            "a web page, saved under this name",
            "open the link in a browser, and download the file itself",
        ),
        (
            rb"version https://git-lfs",
            "a pointer of Git LFS to a file, not the file",
            "download it with `git lfs pull`, or by the link to the file itself",
        ),
        (rb"Rar!\x1a", "a RAR archive", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"\x1f\x8b|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd", "a packed file or archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (
            rb"Ix[A-Za-z0-9]{2}|Iw[A-Za-z0-9]{2}|I[BHN][A-Za-z0-9]{2}",
            "a retrieval index of faiss",
            "it belongs to a voice: name the voice's .pth, and this file with --index",
        ),
        (
            rb"\x08[\x01-\x0f](\x12.{1,2}(pytorch|tf2onnx|jax2onnx|onnx)|[\x10-\x40:])",
            "an ONNX graph",
            "a graph can't be taken apart: name the .pth that it was made from",
        ),
        (
            rb"RIFF....WAVE|fLaC|OggS|ID3|FORM....AIFF|\xff[\xfb\xf3\xf2]|....ftyp|\x1aE\xdf\xa3",
            "a recording",
            "name a voice's .pth; `rvc-jax convert` takes recordings",
        ),
        (
            rb"\x93NUMPY",
            "an array of NumPy",
            "name a voice's .pth; a retrieval index in .npy is named with --index",
        ),
        (rb"GGUF", "a language model in GGUF", "name a voice's .pth"),
        (rb"\x89HDF", "an HDF5 file (Keras?)", "name a voice's .pth"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP", "a picture", "name a voice's .pth"),
        (rb"%PDF", "a PDF document", "name a voice's .pth"),
        (rb"MZ|\x7fELF", "a program", "name a voice's .pth, and don't start this"),
        (rb"\s*[\[{]\s*[\"\[{\]}]", "a JSON text", "name a voice's .pth"),
        (rb"\0{512}", "zeros, at least at its beginning", _AGAIN),
    )
)

_ARCHITECTURES: tuple[tuple[str, FileKind], ...] = tuple(
    (pattern, FileKind(*kind))
    for pattern, *kind in (
        (
            r"discriminators\.\d+\.",
            "a discriminator (D)",
            "it trains a voice and can't convert: name the generator (G), and this one with "
            "`rvc-jax import G.pth --discriminator D.pth`",
        ),
        (
            r"(w2v_encoder\.|hubert\.)?(w2v_model\.)?"
            r"(feature_extractor\.conv_layers|encoder\.layers\.\d+\.(self_attn|attention))\.",
            "a content encoder (HuBERT, ContentVec or another of their family)",
            "every voice uses one, but it is not a voice: name the voice's .pth",
        ),
        (
            r"unet\.(encoder|intermediate|decoder)\.|fc\.0\.gru\.",
            "the pitch model RMVPE",
            "it finds the pitch of recordings: name a voice's .pth",
        ),
        (
            r"(model\.)?(stack|decoder)\._layers\.|input_stack\.|output_proj\.weight_[gv]|"
            r"harmonic_emb",
            "the pitch model FCPE",
            "it finds the pitch of recordings: name a voice's .pth",
        ),
        (
            r"conv\d_BN\.|conv\d\.weight$|classifier\.weight",
            "a pitch model or another classifier",
            "name a voice's .pth",
        ),
        (
            r"enc_p\.ssl_proj\.|enc_p\.encoder_ssl\.|model\.ar_",
            "a model of GPT-SoVITS",
            "it reads texts aloud, with another architecture: it opens in GPT-SoVITS",
        ),
        (
            r"emb_uv\.|f0_decoder\.|enc_p\.f0_emb\.|enc_p\.pre\.",
            "a so-vits-svc model",
            "that is another architecture, with its own training: it opens in so-vits-svc; train a "
            "voice from the same recordings with rvc-jax",
        ),
        (
            r"enc_p\.emb\.weight|dp\.flows\.|sdp\.",
            "a text-to-speech model (VITS)",
            "it reads texts aloud: it opens in the program that it was trained with",
        ),
        (
            r"denoise_fn\.|diffusion|unit_embed\.",
            "a diffusion model (DDSP-SVC, so-vits-svc)",
            "it opens in the program that it was trained with",
        ),
        (
            r"(model\.)?diffusion_model\.|first_stage_model\.|lora_",
            "an image model",
            "name a voice's .pth",
        ),
        (
            r"(band_split|mask_estimators|stft_band|mdx|stg1_|aspp\.)",
            "a model that takes the voice out of music",
            "name a voice's .pth; `rvc-jax prepare --separate-vocals` takes voices out of music",
        ),
    )
)


def sniff_head(path: Path) -> FileKind | None:
    """Recognize a file by its first bytes; None if a voice may begin like that.

    Raises:
      UserError: It is missing, is not a file, or can't be read.
    """
    head = read_head(path)
    if not head:
        return FileKind("empty", _AGAIN)
    return next((kind for pattern, kind in _HEADS if pattern.match(head)), None)


def read_head(path: Path) -> bytes:
    """Read the beginning of a file. Raises UserError if it is missing, not a file or unreadable."""
    try:
        with open_plain(path) as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: a length, then a JSON object."""
    head = read_head(path)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, whatever its name, but not a PyTorch file."""
    if read_head(path)[:2] != b"PK":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
    except Exception:  # a damaged archive can raise anything
        return path.suffix.lower() == ".zip"


def sniff_names(names: Mapping[str, Any]) -> FileKind | None:
    """Recognize a network by the names of its arrays; None if it is RVC's, or unknown."""
    for pattern, kind in _ARCHITECTURES:
        if any(re.match(pattern, str(name)) for name in names):
            return kind
    vocoder = find_other_vocoder(names)
    if vocoder is None:
        return None
    return FileKind(f"a voice with {vocoder}", other_vocoder_advice(vocoder))


def other_vocoder_advice(vocoder: str) -> str:
    """What to do with a voice of another vocoder."""
    is_applio = any(name in vocoder for name in _APPLIO_VOCODERS)
    where = "in Applio" if is_applio else "in the tool that it was trained with"
    return f"only HiFi-GAN is known here: it opens {where}"


def list_first_names(names: Mapping[str, Any]) -> str:
    """List the first few names, for a message."""
    listed = ", ".join(sanitize(name, 40) for name in list(names)[:3])
    return listed + (", ..." if len(names) > 3 else "")
