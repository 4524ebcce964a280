"""The Colab notebook: made from its source, and all its cells run on this machine with a stand-in for Colab."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import rvc_jax
from rvc_jax.notebook.texts import Texts

COLAB = Path(__file__).parents[2] / "launch" / "colab"
NOTEBOOK = COLAB / "rvc_jax.ipynb"
FAKES = Path(__file__).with_name("fake_colab")


def test_the_notebook_is_what_its_source_gives() -> None:
    assert NOTEBOOK.read_text() == runpy.run_path(str(COLAB / "build.py"))["build"]()


def test_every_code_cell_is_a_form_with_a_few_lines() -> None:
    for cell in code_cells():
        assert cell.source.startswith("# @title ") and " · " in cell.source.splitlines()[0]
        assert cell.metadata == {"cellView": "form"}
    assert all(len(cell.source.splitlines()) <= 8 for cell in code_cells()[1:])


def test_every_field_is_explained_in_both_languages() -> None:
    words = "".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    fields = {name for cell in code_cells() for name in re.findall(r"^([A-Z_]+) = .*# @param", cell.source, re.M)}
    told = {field for field in fields if words.count(f"`{field}`") >= 2}
    assert fields - told == {"LANGUAGE", "USE_GOOGLE_DRIVE", "FORMAT", "DOWNLOAD"}


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells() -> list[Any]:
    return [cell for cell in read().cells if cell.cell_type == "code"]


def filled_in(**values: object) -> Any:
    """The notebook with other values in its forms."""
    notebook = read()
    for name, value in values.items():
        cells = [cell for cell in notebook.cells if re.search(rf"^{name} = .*# @param", cell.source, re.M)]
        assert len(cells) == 1, name
        cells[0].source = re.sub(rf"^{name} = .*?(?=  # @param)", f"{name} = {value!r}", cells[0].source, flags=re.M)
    return notebook


class Colab:
    """A stand-in's folder, and notebooks run in it."""

    def __init__(self, place: Path):
        self.place, self.content = place, place / "content"
        self.content.mkdir()
        self.voice = self.content / "drive" / "MyDrive" / "rvc_voices" / "callie"

    def run(self, monkeypatch: pytest.MonkeyPatch, **values: object) -> str:
        """Runs all cells, as a person does from top to bottom; returns what is shown, as text."""
        root = Path(rvc_jax.__file__).parents[1]
        paths = (str(FAKES), str(root), os.environ.get("PYTHONPATH", ""))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        monkeypatch.setenv("FAKE_COLAB", str(self.place))
        notebook = filled_in(**values)
        resources = {"metadata": {"path": str(self.content)}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        return "\n".join(output.data.get("text/plain", "") for output in outputs if "data" in output)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.place / "calls.jsonl").read_text().splitlines()]


def test_all_cells_from_speech_to_a_released_runtime_and_again(
    sample_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab = Colab(tmp_path)
    shutil.copytree(sample_voice, tmp_path / "upload")
    (tmp_path / "upload" / "broken.mp3").write_bytes(b"no sound at all")
    values = {"VOICE": "callie", "PRESET": "nano", "MEASURE": False, "SAVE_EVERY": 1, "FORMAT": "flac", "RELEASE": True}

    shown = colab.run(monkeypatch, LANGUAGE="Français", EPOCHS=2, **values)

    french = Texts("fr")
    for key in ("cpu", "unknown", "training", "listen"):
        assert french(key) in shown
    assert french("on drive", folder=colab.voice) in shown and "L'entraînement est terminé" in shown
    calls = colab.calls
    assert [call[0] for call in calls] == ["mount", "upload", "tensorboard", "download", "flush", "unassign"]
    assert str(colab.voice / "run" / "metrics") in calls[2][1]
    chosen = {file.name for file in (tmp_path / "upload").iterdir()}
    assert {file.name for file in (colab.voice / "speech").iterdir()} == chosen
    assert "Laissé de côté broken.mp3 :" in shown
    assert (colab.voice / "run" / "report.html").exists() and list((colab.voice / "converted").glob("*.flac"))
    with zipfile.ZipFile(tmp_path / "downloads" / "callie.zip") as archive:
        assert archive.testzip() is None and "model.safetensors" in archive.namelist()

    steps = json.loads((colab.voice / "run" / "heartbeat.json").read_text())["step"]
    shown = colab.run(monkeypatch, LANGUAGE="English", EPOCHS=3, **values)

    english = Texts("en")
    assert english("there run", state="finished", step=steps) in shown
    assert english("kept uploads", count=7) in shown and english("prepared before") in shown
    assert json.loads((colab.voice / "run" / "heartbeat.json").read_text())["step"] == steps * 3 // 2
    again = [call[0] for call in colab.calls[len(calls) :]]
    assert again == ["mount", "tensorboard", "download", "flush", "unassign"]


def test_a_mistake_is_one_line_and_the_cells_below_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colab = Colab(tmp_path)
    with pytest.raises(CellExecutionError) as caught:
        colab.run(monkeypatch, VOICE="../ada")
    assert "VOICE '../ada' can't be a name" in caught.value.traceback
    assert "Traceback" not in caught.value.traceback and "studio.py" not in caught.value.traceback
    assert not (tmp_path / "calls.jsonl").exists()
