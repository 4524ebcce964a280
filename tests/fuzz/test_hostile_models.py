"""Weights and settings of models from anywhere: read, or refused in one line, within bounded time
and memory."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import hostile_audio
import hostile_models
import pytest
import soundfile
import worker

from rvc_jax.cli.main import main

pytest.importorskip("resource")
NEVER_ENDING = {
    "2^47 in many dimensions.safetensors",
    "2^62 in many dimensions.pth",
    "dimensions of 5 MB.pth",
    "a deep tuple for a key.pth",
    "deep tuples of storages, legacy keys.pt",
    "tuples of tuples, legacy keys.pt",
    *(
        f"tuples of tuples {place}{ending}"
        for place in ("for a key", "for keys", "in a set", "in a frozen set", "in a dictionary")
        for ending in (".pth", ", legacy.pt", ", placeholders.bin")
    ),
}
"""What keeps a reader busy for ever that multiplies, or hashes, whatever it is given."""
GREEDY = "weights of 300 layers in one storage"

READ = {
    "a number of 5 MB.pth",
    "a comment of 64 KB.pth",
    "a header of spaces.safetensors",
    "many empty tensors.safetensors",
}
"""Strange, but nothing is wrong with them."""


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check(result: worker.Result, folder: Path) -> None:
    """One line that begins with the file that is refused, if it is."""
    assert "crash" not in result, result
    if "reason" in result:
        assert result["reason"].startswith(str(folder)) and result["reason"].isprintable()
        assert len(result["reason"]) < len(str(folder)) + 600


def test_every_file_is_read_or_refused(tmp_path: Path) -> None:
    files = hostile_models.files()
    assert len(files) > 200 and set(files) > NEVER_ENDING
    results = worker.read_folder("models", written(tmp_path / "models", files))
    assert set(results) == set(files)
    for name, result in results.items():
        check(result, tmp_path / "models" / name)
        assert "reason" not in result or name not in READ, result
        assert "reason" in result or name not in NEVER_ENDING
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_none_of_these_files_is_a_voice(tmp_path: Path) -> None:
    files = {
        name: content
        for name, content in hostile_models.files().items()
        if len(content) < 20_000
    }
    assert len(files) > 150
    results = worker.read_folder("voices", written(tmp_path / "voices", files))
    assert set(results) == set(files)
    for name, result in results.items():
        check(result, tmp_path / "voices" / name)
        assert "reason" in result, result


def test_every_folder_is_a_model_or_refused(tmp_path: Path) -> None:
    hostile_models.folders(tmp_path)
    shutil.rmtree(tmp_path / GREEDY)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) > 45
    results = worker.read_folder("models", tmp_path)
    assert set(results) == names
    for name, result in results.items():
        check(result, tmp_path / name)
    assert "reason" not in results["small"]


def test_a_folder_of_many_layers_in_one_storage(tmp_path: Path) -> None:
    hostile_models.folders(tmp_path)
    (tmp_path / "alone").mkdir()
    (tmp_path / GREEDY).rename(tmp_path / "alone" / GREEDY)
    check(worker.read_folder("models", tmp_path / "alone")[GREEDY], tmp_path / "alone" / GREEDY)


@pytest.mark.parametrize(
    "name",
    [
        "a command.pth",
        "tuples of tuples.pth",
        "a stop alone.pth",
        "a deep tuple.pth",
        "a number of 5 MB for a key.pth",
        "a key that steers.pth",
    ],
)
def test_info_of_a_hostile_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """By a command that prints the names in it."""
    path = tmp_path / name
    steering = hostile_models.in_zip(
        pickle.dumps({"\x1b[2J\x1b]0;title\x07\u202e": 1, ("a", 1): 2, None: 3}, 2)
    )
    path.write_bytes(hostile_models.files().get(name, steering))
    code = main(["info", str(path)])
    output = capsys.readouterr()
    assert (code, output.out) == (2, "") if output.err else code == 0
    lines = (output.out + output.err).splitlines()
    assert all(line.isprintable() for line in lines) and len(lines) < 40
    assert not output.err or len(lines) == 1


@pytest.mark.parametrize(
    "name", ["weights of garbage", "config 10^400 heads", "config steers", "weights of nothing"]
)
def test_a_content_encoder_that_is_refused_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "models").mkdir()
    hostile_models.folders(tmp_path / "models")
    (tmp_path / "models" / name / "pytorch_model.bin").write_bytes(b"garbage")
    soundfile.write(tmp_path / "a.wav", hostile_audio.speech(), hostile_audio.RATE)
    options = [
        "--preset",
        "nano",
        "--content-encoder",
        str(tmp_path / "models" / name),
        "--cache",
        str(tmp_path / "c"),
    ]
    assert (
        main(["prepare", str(tmp_path / "a.wav"), "--out", str(tmp_path / "out"), *options])
        == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith(f"rvc-jax: error: {tmp_path / 'models' / name}") and line.isprintable()
    )
    assert {path.name for path in tmp_path.iterdir()} == {"models", "a.wav"}
