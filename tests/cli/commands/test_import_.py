"""`rvc-jax import`, and what takes its folders: convert, info, train."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run
from public_files import applio, checkpoint, classic, small_voice, write

from rvc_jax.audio.reading import decode
from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.train import pretrained
from rvc_jax.voices.model import VoiceModel

NANO = {"resblock_kernels": (3, 5), "resblock_dilations": ((1,), (3,)), "content_channels": 384}
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def nano() -> VoiceModel:
    """A voice that converts with what comes with the package."""
    return small_voice("nano", **NANO)


def test_a_voice_is_imported_and_speaks(
    tmp_path: Path, nano: VoiceModel, other_clip: Path, capsys: Captured
) -> None:
    path = write(tmp_path / "ada.pth", applio(nano, embedder_model="something"))
    np.save(
        tmp_path / "rows.npy",
        np.random.default_rng(0).standard_normal((30, 384)).astype(np.float16),
    )
    arguments = [
        "import",
        str(path),
        "--out",
        str(tmp_path / "ada"),
        "--index",
        str(tmp_path / "rows.npy"),
    ]
    assert main(arguments) == 2
    assert (
        "'something', which is not here: --content-encoder takes" in capsys.readouterr().err
        and not (tmp_path / "ada").exists()
    )
    assert main([*arguments, "--content-encoder", "whisper-tiny", "--name", "Ada"]) == 0
    told = capsys.readouterr().out
    assert (
        "v2 at 16000 Hz, with pitch" in told
        and "30 rows of rows.npy" in told
        and "voice, Ada" in told
    )
    assert f"rvc-jax convert {tmp_path / 'ada'} SOURCE OUT" in told

    out = tmp_path / "out.wav"
    assert main(["convert", str(tmp_path / "ada"), str(other_clip), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == decode(out)[0].shape[1] == 113600
    assert np.abs(decode(out)[0]).max() > 1e-3

    assert main(["info", str(tmp_path / "ada"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["kind"], figures["index_rows"], figures["epoch"]) == ("voice", 30, 200)
    assert figures["made_of"]["file"] == "ada.pth" and len(figures["made_of"]["sha256"]) == 64
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_pair_can_be_trained_on(tmp_path: Path, capsys: Captured) -> None:
    trained = small_voice(
        "nano", posterior=True, resblock_kernels=(3, 7), resblock_dilations=((1, 3), (1, 3))
    )
    critic = Network(Discriminator(PRESETS["nano"].discriminator))
    weights = critic.to_public(critic.init(3))
    files = [
        write(tmp_path / "G_7.pth", checkpoint(trained)),
        write(tmp_path / "D_7.pth", {"model": weights}),
    ]
    out = tmp_path / "ada"
    encoder = ["--content-encoder", "whisper-tiny"]
    assert (
        main(
            [
                "import",
                str(files[0]),
                "--out",
                str(out),
                "--discriminator",
                str(files[1]),
                *encoder,
            ]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert (
        f"--pretrained-generator {out}/model.safetensors" in told
        and "training checkpoint" in told
    )
    read = pretrained.read(out / "model.safetensors")
    assert all(np.array_equal(read[name], array) for name, array in trained.weights.items())
    read = pretrained.read(out / "discriminator.safetensors")
    assert all(np.array_equal(read[name], array) for name, array in weights.items())
    assert main(["import", str(files[1]), "--out", str(tmp_path / "bo")]) == 2
    assert "it is a discriminator (D)" in capsys.readouterr().err


def test_a_public_voice_says_what_to_download(
    tmp_path: Path, other_clip: Path, capsys: Captured
) -> None:
    path = write(tmp_path / "ada.pth", classic(small_voice()))
    arguments = [
        "convert",
        str(path),
        str(other_clip),
        str(tmp_path / "out.wav"),
        "--f0-method",
        "swift",
    ]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "the content encoder contentvec is not here" in line
        and "`rvc-jax download contentvec`" in line
    )
    assert [file.name for file in tmp_path.iterdir()] == ["ada.pth"]


@pytest.mark.parametrize("ending", [".pth", ".bin"])
def test_info_tells_a_voice_and_what_is_none(
    tmp_path: Path, ending: str, capsys: Captured
) -> None:
    path = write(tmp_path / f"ada{ending}", applio(small_voice()))
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    for text in ("voice", "v2", "40000", "HiFi-GAN", "00:20:00", "contentvec", "67791"):
        assert text in told
    path = write(
        tmp_path / f"d{ending}",
        {"model": {"discriminators.0.convs.0.bias": np.zeros(1, np.float32)}},
    )
    assert main(["info", str(path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["kind"] == "a discriminator (D)" and figures["keys"] == ["model"]
    assert "is not a voice" in figures["no_voice"]


def test_info_tells_a_folder_of_voices(tmp_path: Path, capsys: Captured) -> None:
    for name in ("ada.pth", "bo.pth"):
        write(tmp_path / name, classic(dataclasses.replace(small_voice("40k-v1"))))
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["ada.pth", "bo.pth"]


def test_a_run_needs_no_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    assert main(["import", str(run.path), "--out", str(tmp_path / "voice")]) == 2
    assert "is a run, which needs no import" in capsys.readouterr().err
    assert not (tmp_path / "voice").exists()
