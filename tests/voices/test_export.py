"""A run's voice in other tools' forms: what is written, what is checked, and that a failure leaves
nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from made_runs import ROWS, make_model, make_run
from micro import MICRO, MICRO_SMALL

from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS, ExportConfig, to_dict
from rvc_jax.errors import UserError
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.storage.files import file_sha256
from rvc_jax.voices import export as exports
from rvc_jax.voices import export_writer
from rvc_jax.voices.export import export, save_voice
from rvc_jax.voices.export_check import spectral_difference
from rvc_jax.voices.formats import native, pth_writer
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import safetensors_file, torch_file


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small voices pass for such that other tools can load, and their discriminators as well."""
    monkeypatch.setattr(VoiceModel, "is_rvc_compatible", True)
    monkeypatch.setattr(exports, "rvc_discriminator", lambda model: MICRO.discriminator)


@pytest.fixture
def index_file(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Index files that are arrays of NumPy."""

    def write(path: Path, rows: np.ndarray) -> None:
        with path.open("wb") as file:
            np.save(file, rows.astype(np.float32))

    stand_in = types.SimpleNamespace(write=write, read=lambda path: np.load(path))
    monkeypatch.setattr(export_writer, "faiss_index", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "my voice").path


@pytest.fixture(scope="module")
def whisper_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "small", encoder="whisper-tiny").path


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_everything_is_written_and_checked(
    public, index_file, run: Path, tmp_path: Path
) -> None:
    formats = ("rvc", "zip", "safetensors", "checkpoints")
    written = export(run, tmp_path / "a" / "out", ExportConfig(formats, author="somebody"))
    out = tmp_path / "a" / "out"
    expected = {
        "my_voice.pth",
        "my_voice.index",
        "my_voice.zip",
        "my_voice.md",
        "model.safetensors",
    }
    assert (
        names(out) == expected | {"G_0.pth", "D_0.pth"} == {file.name for file in written.files}
    )
    for file in written.files:
        assert (file.bytes, file.sha256) == (
            (out / file.name).stat().st_size,
            file_sha256(out / file.name),
        )

    folder = RunFolder.open(run)
    best = VoiceModel.from_run(folder)
    content = torch_file.read(out / "my_voice.pth")
    assert (content["epoch"], content["step"], content["author"]) == (1, 10, "somebody")
    assert (content["dataset_length"], content["model_name"]) == ("01:01:30", "my_voice")
    assert not any(name.startswith("enc_q") for name in content["weight"])
    assert (
        0
        < pth_writer.measure_rounding(content["weight"], best.without_posterior().weights)
        <= 1
    )
    assert 0 < written.checks["rvc"]["speech_difference_db"] < 0.5
    assert written.checks["safetensors"]["speech_difference_db"] == 0
    assert written.checks["index"] == {"rows": 60, "channels": 384, "same_rows": True}

    found = safetensors_file.read(out / "model.safetensors")
    assert all(np.array_equal(found[name], array) for name, array in best.weights.items())
    told = json.loads(safetensors_file.metadata(out / "model.safetensors")["rvc_jax_voice"])
    assert told["generator"] == json.loads(json.dumps(to_dict(best.generator)))
    assert (told["version"], told["content_encoder"], told["speakers"]) == (
        "v2",
        "contentvec",
        ["callie"],
    )
    assert told["facts"]["step"] == 10

    generator = torch_file.read(out / "G_0.pth")
    newest = VoiceModel.from_run(folder, "latest").weights
    assert all(
        np.array_equal(generator["model"][name], array) for name, array in newest.items()
    )
    assert any(name.startswith("enc_q") for name in generator["model"])
    assert generator["iteration"] == 2
    rate = 0.5 * folder.preset.train.learning_rate * folder.preset.train.learning_rate_decay
    assert generator["optimizer"]["param_groups"][0]["lr"] == pytest.approx(rate)
    assert any("of step 20" in note for note in written.notes)
    judge = torch_file.read(out / "D_0.pth")
    assert judge["model"]["discriminators.1.convs.0.weight_v"].shape == (4, 1, 5, 1)


def test_the_archive_is_what_uploads_take(
    public, index_file, run: Path, tmp_path: Path
) -> None:
    export(run, tmp_path, ExportConfig(("zip",), name="Callie (2)"))
    assert names(tmp_path) == {"Callie (2).zip", "Callie (2).md"}
    with zipfile.ZipFile(tmp_path / "Callie (2).zip") as archive:
        assert archive.namelist() == ["Callie (2).pth", "Callie (2).index", "Callie (2).md"]
        assert archive.testzip() is None
        assert archive.read("Callie (2).md") == (tmp_path / "Callie (2).md").read_bytes()


def test_onnx_sounds_like_the_voice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_model = pytest.importorskip("rvc_jax.voices.formats.onnx_model")
    pytest.importorskip("onnx")
    written = export(run, tmp_path, ExportConfig(("onnx", "onnx-rvc")))
    assert names(tmp_path) == {"my_voice.onnx", "my_voice.rvc.onnx", "my_voice.md"}
    for form in ("onnx", "onnx-rvc"):
        assert written.checks[form]["largest_difference"] < 1e-3
        assert written.checks[form]["speech_difference_db"] < 0.1

    def missing(*arguments: object) -> None:
        raise UserError("ONNX files need the package onnx")

    monkeypatch.setattr(onnx_model, "write", missing)
    written = export(run, tmp_path / "default", ExportConfig())
    assert "no onnx file: ONNX files need the package onnx" in written.notes
    with pytest.raises(UserError, match="need the package"):
        export(run, tmp_path / "asked", ExportConfig(("onnx",)))
    assert not (tmp_path / "asked").exists()


def test_a_voice_for_this_program_alone(
    whisper_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for form in ("rvc", "zip", "checkpoints"):
        out = tmp_path / form
        assert main(["export", str(whisper_run), "--format", form, "--out", str(out)]) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert (
            told.startswith("rvc-jax: error: ")
            and "whisper-tiny" in told
            and "ContentVec" in told
        )
        assert not out.exists()
    assert main(["export", str(whisper_run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert names(whisper_run / "voice") >= {"model.safetensors", "small.md"}
    assert not names(whisper_run / "voice") & {"small.pth", "small.zip"}
    assert any("whisper-tiny" in note for note in result["notes"])
    by_name = {file["name"]: file for file in result["files"]}
    content = (whisper_run / "voice" / "model.safetensors").read_bytes()
    assert by_name["model.safetensors"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["checks"]["safetensors"]["speech_difference_db"] == 0


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "my small"
    return make_run(folder, encoder="whisper-tiny", preset=MICRO_SMALL).path


@pytest.mark.parametrize("form", ["rvc", "zip", "checkpoints"])
def test_a_small_voice_is_not_written_for_rvc(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, form: str
) -> None:
    assert main(["export", str(small_run), "--format", form, "--out", str(tmp_path / "o")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"rvc-jax: error: --format {form} is not possible")
    assert "networks of the preset small" in line and "train with the preset 40k" in line
    assert not (tmp_path / "o").exists()


def test_a_small_voice_is_written_for_onnx_and_for_us(small_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    written = export(small_run, tmp_path, ExportConfig(("all",)))
    expected = {"my_small.onnx", "my_small.rvc.onnx", "model.safetensors", "my_small.md"}
    assert names(tmp_path) == expected
    for form in ("onnx", "onnx-rvc", "safetensors"):
        assert written.checks[form]["speech_difference_db"] < 0.1
    assert any("preset 40k" in note for note in written.notes)
    card = (tmp_path / "my_small.md").read_text()
    assert "A voice of rvc_jax at 16 kHz" in card and "small" in card

    model = VoiceModel.from_run(RunFolder.open(small_run))
    again = native.read(tmp_path / "model.safetensors")
    assert (again.generator, again.audio) == (model.generator, model.audio)
    assert again.content_encoder == "whisper-tiny" and again.has_posterior
    assert all(np.array_equal(again.weights[key], model.weights[key]) for key in model.weights)


def test_other_sizes_run_here_alone(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other sizes than RVC's"):
        export(run, tmp_path / "out", ExportConfig(("rvc",)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["pth", "index", "sound"])
def test_damaged_files_are_not_kept(
    public, index_file, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """The files of an export before stay as they are."""
    (tmp_path / "my_voice.pth").write_bytes(b"before")
    if damage == "pth":
        write = torch_file.write

        def flipped(path: Path, content: dict) -> None:
            write(path, content)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x55
            path.write_bytes(data)

        monkeypatch.setattr(torch_file, "write", flipped)
    elif damage == "index":
        index_file.read = lambda path: np.load(path)[:-1]
    else:
        monkeypatch.setattr(
            export_writer,
            "spectral_difference",
            lambda *waves: spectral_difference(*waves) + 1.0,
        )
    with pytest.raises(UserError):
        export(run, tmp_path, ExportConfig(("rvc",)))
    assert (
        names(tmp_path) == {"my_voice.pth"}
        and (tmp_path / "my_voice.pth").read_bytes() == b"before"
    )
    with pytest.raises(UserError):
        export(run, tmp_path / "new" / "folder", ExportConfig(("rvc",)))
    assert names(tmp_path) == {"my_voice.pth"}


def test_a_voice_in_one_file(public, index_file, tmp_path: Path) -> None:
    model = make_model(1)
    assert save_voice(tmp_path / "a.pth", dataclasses.replace(model, index=ROWS)) == [
        tmp_path / "a.pth",
        tmp_path / "a.index",
    ]
    assert save_voice(tmp_path / "b.safetensors", model) == [tmp_path / "b.safetensors"]
    assert names(tmp_path) == {"a.pth", "a.index", "b.safetensors"}
    assert torch_file.read(tmp_path / "a.pth")["model_name"] == "made"
    assert save_voice(tmp_path / "c.pth", dataclasses.replace(model, facts={})) == [
        tmp_path / "c.pth"
    ]
    assert torch_file.read(tmp_path / "c.pth")["model_name"] == "c"


@pytest.mark.parametrize("name", ["a.onnx", "a", "missing/a.pth", ""])
def test_a_voice_cannot_be_written_anywhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        save_voice(tmp_path / name, make_model(1))
    assert not names(tmp_path)


def test_extract_takes_a_step(
    public, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "x.safetensors"
    assert main(["extract", str(run), "--out", str(out), "--step", "10"]) == 0
    best = VoiceModel.from_run(RunFolder.open(run)).without_posterior().weights
    found = safetensors_file.read(out)
    assert set(found) == set(best) and all(
        np.array_equal(found[name], array) for name, array in best.items()
    )
    assert main(["extract", str(run), "--out", str(tmp_path / "y.pth"), "--json"]) == 0
    content = torch_file.read(tmp_path / "y.pth")
    assert (content["step"], content["info"]) == (20, "2epoch")
    capsys.readouterr()
    assert main(["extract", str(run), "--out", str(out), "--step", "11"]) == 2
    assert "it has 10, 20" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    copy = make_run(tmp_path / "copy")
    hashes = copy.best / "10" / checkpoint.HASHES
    hashes.write_text(hashes.read_text().replace("a", "b"))
    with pytest.raises(UserError, match="damaged"):
        export(copy.path, None, ExportConfig(("safetensors",)))
    assert not (copy.path / "voice").exists()


def test_a_bucket_is_a_place_too(public, run: Path, tmp_path: Path) -> None:
    """The run is there, and its voice comes there."""
    bucket = fsspec.filesystem("memory")
    bucket.store.clear()
    for file in filter(Path.is_file, run.rglob("*")):
        bucket.pipe(f"/runs/my voice/{file.relative_to(run).as_posix()}", file.read_bytes())
    before = set(bucket.find("/runs"))
    written = export(
        "memory://runs/my voice", None, ExportConfig(("checkpoints", "safetensors"))
    )
    assert written.out == "memory://runs/my voice/voice" and written.name == "my_voice"
    made = {
        place.removeprefix("/runs/my voice/voice/")
        for place in set(bucket.find("/runs")) - before
    }
    assert made == {"model.safetensors", "my_voice.md", "G_0.pth", "D_0.pth"}
    export(run, tmp_path / "here", ExportConfig(("safetensors",)))
    there = bucket.cat("/runs/my voice/voice/model.safetensors")
    assert there == (tmp_path / "here" / "model.safetensors").read_bytes()


def test_a_foreign_name_is_not_a_path(public, tmp_path: Path) -> None:
    model = dataclasses.replace(
        make_model(1), facts={"name": "../../evil", "epoch": "many", "step": None}
    )
    save_voice(tmp_path / "a.pth", model)
    assert names(tmp_path) == {"a.pth"}
    content = torch_file.read(tmp_path / "a.pth")
    assert (content["model_name"], content["epoch"]) == ("evil", 0)


@pytest.mark.parametrize("name", ["声" * 100, "e\u0301" * 60, "🎤" * 40])
def test_long_names_are_shortened(
    public, index_file, run: Path, tmp_path: Path, name: str
) -> None:
    written = export(run, tmp_path / "out", ExportConfig(("rvc", "zip"), name=name))
    files = names(tmp_path / "out")
    assert files == {file.name for file in written.files} and len(files) == 4
    assert all(len(file.encode()) <= 120 and file[:1] == name[:1] for file in files)
    (pth,) = (tmp_path / "out").glob("*.pth")
    assert torch_file.read(pth)["model_name"] == name
    assert export(run, tmp_path / "out", ExportConfig(("rvc",), name=name)).name == name


def test_a_wrong_name_or_place_writes_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be the name"):
        export(run, tmp_path / "out", ExportConfig(name="../x"))
    with pytest.raises(UserError, match="is a file"):
        export(run, tmp_path / "file", ExportConfig(("safetensors",)))
    with pytest.raises(UserError, match="no run"):
        export("memory://nowhere", tmp_path / "out", ExportConfig())
    assert names(tmp_path) == {"file"}


def test_a_run_without_speech_features_has_no_index(public, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run.path / "index.npy").unlink()
    written = export(run.path, None, ExportConfig(("rvc",)))
    assert names(run.path / "voice") == {"run.pth", "run.md"}
    assert any("no .index" in note for note in written.notes)
    assert build_synthesizer(
        run.preset.generator, run.preset.audio, posterior=False
    ).public_shapes.keys() == (torch_file.read(run.path / "voice" / "run.pth")["weight"].keys())


def test_what_is_written_opens_again(
    public, whisper_run: Path, tmp_path: Path, monkeypatch
) -> None:
    """By the reader of any tool's files, which knows nothing of the writer."""
    monkeypatch.setitem(PRESETS, "nano", MICRO)  # a checkpoint's sizes are those of a preset
    opened = pytest.importorskip("rvc_jax.voices.open")
    pytest.importorskip("rvc_jax.voices.formats.faiss_index")
    export(
        whisper_run,
        tmp_path,
        ExportConfig(("rvc", "zip", "safetensors", "checkpoints"), author="somebody"),
    )
    folder = RunFolder.open(whisper_run)
    best = VoiceModel.from_run(folder)
    newest = VoiceModel.from_run(folder, "latest")
    for name in ("small.pth", "small.zip"):
        found = opened.open_voice(tmp_path / name)
        assert (
            0
            < pth_writer.measure_rounding(found.weights, best.without_posterior().weights)
            <= 1
        )
        assert (to_config_list(found), found.version) == (
            to_config_list(best),
            "v2",
        )
        assert (found.facts["author"], found.facts["epoch"]) == ("somebody", 1)
        np.testing.assert_array_equal(found.index, ROWS.astype(np.float32))
    for name, model in (("model.safetensors", best), ("G_0.pth", newest)):
        found = opened.open_voice(tmp_path / name, index="none", content_encoder="whisper-tiny")
        assert (
            found.generator == model.generator and found.weights.keys() == model.weights.keys()
        )
        assert all(
            np.array_equal(found.weights[key], array) for key, array in model.weights.items()
        )

    before = names(tmp_path)
    for name in ("small.pth", "small.zip", "model.safetensors"):
        with pytest.raises(UserError, match="the voice itself"):
            export(tmp_path / name, tmp_path, ExportConfig(("rvc", "zip", "safetensors")))
    assert names(tmp_path) == before
    again = export(tmp_path / "small.zip", tmp_path / "again", ExportConfig(("rvc",)))
    assert again.checks["rvc"]["share_of_float16_rounding"] == 0
    old, new = (
        torch_file.read(place / "small.pth") for place in (tmp_path, tmp_path / "again")
    )
    assert all(
        np.array_equal(old["weight"][name], array) for name, array in new["weight"].items()
    )
