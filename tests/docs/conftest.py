"""A folder that has what the documentation's commands name, in the smallest size."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public_files import applio, checkpoint, small_voice, write

from rvc_jax.audio.reading import load
from rvc_jax.audio.writing import save
from rvc_jax.config import PRESETS, ConvertConfig
from rvc_jax.infer import files
from rvc_jax.infer.converter import Converter
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.formats import faiss_index
from rvc_jax.voices.model import VoiceModel

RATE = 16000


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_run: Path,
    sample_dataset: Path,
    other_clip: Path,
) -> Path:
    """Recordings of a second or two, a run that may be written to, its dataset, and voices of other
    tools."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "dataset").symlink_to(sample_dataset)
    shutil.copytree(tiny_run, folder / "run")
    _recordings(folder, load(other_clip, RATE)[: 2 * RATE])
    _voices(folder, RunFolder.open(folder / "run"))
    return folder


@pytest.fixture(scope="module")
def warm() -> Callable[..., Converter]:
    """`load_converter` that loads and compiles a voice once for all commands."""
    voices: dict[tuple, Converter] = {}
    load_voice = files.load_converter

    def load_converter(run: Path | str, config: ConvertConfig, *which: Any) -> Converter:
        key = (Path(run).resolve(), *map(str, which))
        if key not in voices:
            voices[key] = load_voice(run, config, *which)
        return voices[key].with_config(config)

    return load_converter


def _recordings(folder: Path, wave: np.ndarray) -> None:
    for name in (
        "song.mp3",
        "converted.flac",
        "speech/one.wav",
        "speech/two.wav",
        "recordings/one.wav",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        save(folder / name, np.roll(wave, 100 * len(name)), RATE)


def _voices(folder: Path, run: RunFolder) -> None:
    model = VoiceModel.from_run(run)
    write(folder / "ada.pth", applio(model, embedder_model="whisper-tiny"))
    faiss_index.write(folder / "ada.index", run.index()[:100].astype(np.float32))
    with zipfile.ZipFile(folder / "ada.zip", "w") as archive:
        archive.write(folder / "ada.pth", "ada.pth")
        archive.write(folder / "ada.pth", "ada_best.pth")
    write(folder / "G_2333333.pth", checkpoint(small_voice(posterior=True)))
    critic = Network(Discriminator(PRESETS["nano"].discriminator))
    content = {"model": critic.to_public(critic.init(0)), "iteration": 7, "learning_rate": 1e-4}
    write(folder / "D_2333333.pth", content)
