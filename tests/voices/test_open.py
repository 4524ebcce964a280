"""A voice and its index are found together, however they were shared."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_runs import ROWS, make_run
from public_files import classic, small_voice, write

from rvc_jax.errors import UserError
from rvc_jax.infer.voice import Voice
from rvc_jax.voices import open as opened
from rvc_jax.voices.index import find_index
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice("40k-v1")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What every .index holds; how it is read is tested elsewhere."""
    rows = np.random.default_rng(0).standard_normal((20, 256)).astype(np.float32)

    def read(path: str | Path, channels: int) -> np.ndarray:
        assert Path(path).is_file() and channels == 256
        return rows

    monkeypatch.setattr(opened, "read_index", read)
    return rows


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("ada.pth ada.index bo.pth bo.index", "ada.index"),
        (
            "ada.pth added_IVF12_Flat_nprobe_1_ada_v2.index bo.pth",
            "added_IVF12_Flat_nprobe_1_ada_v2.index",
        ),
        (
            "ada.pth added_IVF1_ada_v2.index trained_IVF1_ada_v2.index bo.pth",
            "added_IVF1_ada_v2.index",
        ),
        ("ada.pth anything.index", "anything.index"),
        ("ada.pth added_1.index trained_1.index", "added_1.index"),
        ("ada.pth anything.index bo.pth", None),
        ("ada.pth one.index two.index", None),
        ("ada.pth added_adam_v2.index bo.pth", None),
        ("ada.pth", None),
    ],
)
def test_the_index_beside_a_voice(tmp_path: Path, files: str, found: str | None) -> None:
    for name in files.split():
        (tmp_path / name).touch()
    index = find_index(tmp_path / "ada.pth")
    assert (index.path.name if index.path else None) == found
    assert bool(index.path) or "no index taken" in index.note


@pytest.mark.parametrize("name", ["ada.zip", "ada.pth"])
def test_archives_of_any_name(
    tmp_path: Path, voice: VoiceModel, rows: np.ndarray, name: str
) -> None:
    inner = write(tmp_path / "model.pth", classic(voice))
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.write(inner, "ada/ada.pth")
        archive.writestr("ada/added_ada.index", "rows")
    found = open_voice(tmp_path / name)
    assert (found.version, found.facts["name"], found.index_name) == (
        "v1",
        "ada",
        "added_ada.index",
    )
    assert found.index is rows


def test_a_folder_with_one_voice(tmp_path: Path, voice: VoiceModel, rows: np.ndarray) -> None:
    write(tmp_path / "ada.pth", classic(voice))
    (tmp_path / "D_2333333.pth").touch()
    (tmp_path / "anything.index").touch()
    (tmp_path / "ada.index").touch()
    found = open_voice(tmp_path)
    assert found.facts["name"] == "ada" and found.index_name == "ada.index"
    assert Voice.load(tmp_path).model.index is rows
    (tmp_path / "empty.pth").touch()
    assert open_voice(tmp_path).notes == ()
    write(tmp_path / "bo.pth", classic(voice))
    newest = open_voice(tmp_path)
    assert newest.facts["name"] == "bo" and newest.index is None
    assert "took bo.pth of 2 voices there (not ada.pth); --member" in newest.notes[0]
    assert "no index has this voice's name" in newest.notes[1]
    assert open_voice(tmp_path, member="ADA").index_name == "ada.index"
    with pytest.raises(UserError, match=r"--member cy is not there: there are"):
        open_voice(tmp_path, member="cy")


def test_a_voice_without_pitch_opens(tmp_path: Path) -> None:
    model = small_voice("48k", has_pitch=False)
    path = write(
        tmp_path / "G.pth",
        {"model": dict(small_voice("48k", posterior=True, has_pitch=False).weights)},
    )
    found = Voice.load(path).model
    assert not found.generator.has_pitch
    assert (found.audio, found.content_encoder) == (model.audio, "contentvec")
    assert found.speakers == ("",) * 3 and found.index is None


def test_an_index_that_is_named(tmp_path: Path, voice: VoiceModel) -> None:
    path = write(tmp_path / "ada.pth", classic(voice))
    np.save(tmp_path / "rows.npy", np.ones((9, 256), np.float16))
    np.save(tmp_path / "wide.npy", np.ones((9, 768), np.float16))
    assert Voice.load(path, index=tmp_path / "rows.npy").model.index.shape == (9, 256)
    assert Voice.load(path, index="none").model.index is None
    with pytest.raises(UserError, match="768 channels, the voice's have 256"):
        Voice.load(path, index=tmp_path / "wide.npy")
    with pytest.raises(UserError, match="there is no file"):
        Voice.load(path, index=tmp_path / "gone.npy")
    with pytest.raises(UserError, match="there is no file"):
        Voice.load(tmp_path / "gone.pth")


def test_a_run_opens_by_its_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run")
    best = open_voice(run.path)
    assert (best.facts["name"], best.facts["step"], best.facts["epoch"]) == ("my_run", 10, 1)
    assert best.run is not None and best.run.path == run.path
    np.testing.assert_array_equal(best.index, ROWS)
    assert open_voice(run.path, "latest").facts["step"] == 20
    assert open_voice(run.path, step=20).facts["step"] == 20
    assert open_voice(run.path, index="none").index is None
    with pytest.raises(UserError, match="no checkpoint of step 11; it has 10, 20"):
        open_voice(run.path, step=11)


def test_places_without_a_voice_are_refused(tmp_path: Path, voice: VoiceModel) -> None:
    with pytest.raises(UserError, match="there is neither a run nor a voice at"):
        open_voice(tmp_path / "gone")
    with pytest.raises(
        UserError, match="holds neither a run nor a voice: it has no config.json"
    ):
        open_voice(tmp_path)
    path = write(tmp_path / "ada.pth", classic(voice))
    with pytest.raises(UserError, match="is not a run: only a run has checkpoints"):
        open_voice(path, step=3)


def test_where_rvc_and_w_okada_keep_the_index(tmp_path: Path) -> None:
    weights = tmp_path / "assets" / "weights"
    logs = tmp_path / "logs" / "ada"
    slot = tmp_path / "model_dir" / "3"
    for folder in (weights, logs, slot):
        folder.mkdir(parents=True)
    (weights / "ada_e20_s100.pth").touch()
    (weights / "bo.pth").touch()
    assert find_index(weights / "ada_e20_s100.pth").path is None
    (logs / "trained_IVF5_Flat_nprobe_1_ada_v2.index").touch()
    (logs / "total_fea.npy").touch()
    assert find_index(weights / "ada_e20_s100.pth").path == logs / "total_fea.npy"
    added = logs / "added_IVF5_Flat_nprobe_1_ada_v2.index"
    added.touch()
    found = find_index(weights / "ada_e20_s100.pth")
    assert found.path == added and "took the index" in found.note
    assert find_index(weights / "bo.pth").path is None
    (logs / "G_2333333.pth").touch()
    assert find_index(logs / "G_2333333.pth").path == added

    for name in ("some voice.pth", "strange.index", "other.index"):
        (slot / name).touch()
    assert find_index(slot / "some voice.pth").path is None
    params = {"modelFile": "some voice.pth", "indexFile": r"C:\slot\3\strange.index"}
    (slot / "params.json").write_text(json.dumps(params))
    assert find_index(slot / "some voice.pth").path == slot / "strange.index"
    (slot / "params.json").write_text(json.dumps(params | {"indexFile": "../../x.index"}))
    assert find_index(slot / "some voice.pth").path is None
