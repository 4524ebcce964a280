"""The Colab notebook: made from its source, and all its cells run on this machine with a stand-in
for Colab."""

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
import numpy as np
import pytest
import soundfile
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import rvc_jax
from rvc_jax.notebook.translations import Translations

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
    fields = {
        name
        for cell in code_cells()
        for name in re.findall(r"^([A-Z_]+) = .*# @param", cell.source, re.M)
    }
    told = {field for field in fields if words.count(f"`{field}`") >= 2}
    assert fields - told == {"LANGUAGE", "USE_GOOGLE_DRIVE", "FORMAT", "DOWNLOAD"}


VALUES = {
    "VOICE": "callie",
    "PRESET": "nano",
    "MEASURE": False,
    "SAVE_EVERY": 1,
    "FORMAT": "flac",
    "RELEASE": True,
}
"""Of the forms, in both times."""


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells() -> list[Any]:
    return [cell for cell in read().cells if cell.cell_type == "code"]


def filled_in(**values: object) -> Any:
    """The notebook with other values in its forms."""
    notebook = read()
    for name, value in values.items():
        cells = [
            cell
            for cell in notebook.cells
            if re.search(rf"^{name} = .*# @param", cell.source, re.M)
        ]
        assert len(cells) == 1, name
        cells[0].source = re.sub(
            rf"^{name} = .*?(?=  # @param)", f"{name} = {value!r}", cells[0].source, flags=re.M
        )
    return notebook


class Colab:
    """A stand-in's folder, and notebooks run in it."""

    def __init__(self, place: Path):
        self.place = place
        self.content = place / "content"
        self.content.mkdir()
        self.voice = self.content / "drive" / "MyDrive" / "rvc_voices" / "callie"

    def run(self, monkeypatch: pytest.MonkeyPatch, until: str = "", **values: object) -> str:
        """Runs all cells, as a person does from top to bottom; returns what is shown, as text.

        until: words of the last cell to run.
        """
        root = Path(rvc_jax.__file__).parents[1]
        paths = (
            str(FAKES),
            str(root),
            str(Path(__file__).parents[1]),
            os.environ.get("PYTHONPATH", ""),
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        monkeypatch.setenv("FAKE_COLAB", str(self.place))
        notebook = filled_in(**values)
        last = next(
            i for i, cell in reversed(list(enumerate(notebook.cells))) if until in cell.source
        )
        del notebook.cells[last + 1 :]
        resources = {"metadata": {"path": str(self.content)}}
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=resources
        ).execute()
        outputs = [
            output
            for cell in notebook.cells
            if cell.cell_type == "code"
            for output in cell.outputs
        ]
        return "\n".join(
            output.data.get("text/plain", "") for output in outputs if "data" in output
        )

    @property
    def step(self) -> int:
        """Of the run."""
        return json.loads((self.voice / "run" / "heartbeat.json").read_text())["step"]

    @property
    def calls(self) -> list[list[str]]:
        return [
            json.loads(line) for line in (self.place / "calls.jsonl").read_text().splitlines()
        ]


def first_time(colab: Colab, sample_voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From speech to a released runtime, in French, with Drive."""
    shutil.copytree(sample_voice, colab.place / "upload")
    (colab.place / "upload" / "broken.mp3").write_bytes(b"no sound at all")

    shown = colab.run(monkeypatch, LANGUAGE="Français", EPOCHS=1, **VALUES)

    french = Translations("fr")
    for key in ("cpu", "unknown", "training", "listen"):
        assert french(key) in shown
    assert (
        french("on_drive", folder=colab.voice) in shown
        and "L'entraînement est terminé" in shown
    )
    calls = colab.calls
    assert [call[0] for call in calls] == [
        "mount",
        "upload",
        "tensorboard",
        "download",
        "flush",
        "unassign",
    ]
    assert str(colab.voice / "run" / "metrics") in calls[2][1]
    chosen = {file.name for file in (colab.place / "upload").iterdir()}
    assert {file.name for file in (colab.voice / "speech").iterdir()} == chosen
    assert "broken.mp3 ignoré :" in shown
    assert (colab.voice / "run" / "report.html").exists()
    wave, rate = soundfile.read(next((colab.voice / "converted").glob("*.flac")))
    assert (rate, len(wave)) == (16000, 113600) and np.abs(wave).max() > 0.01
    with zipfile.ZipFile(colab.place / "downloads" / "callie.zip") as archive:
        assert archive.testzip() is None and "model.safetensors" in archive.namelist()


def again(colab: Colab, monkeypatch: pytest.MonkeyPatch, until: str = "") -> list[str]:
    """After a disconnect, with an epoch more, in English; returns what was asked of Colab."""
    calls = len(colab.calls)
    steps = colab.step
    history = (colab.voice / "run" / "history.jsonl").read_text()
    shown = colab.run(monkeypatch, until, LANGUAGE="English", EPOCHS=2, **VALUES)
    english = Translations("en")
    assert english("there_run", state="finished", step=steps) in shown
    assert english("kept_uploads", count=7) in shown and english("prepared_before") in shown
    assert english("trained", steps=2 * steps) in shown and colab.step == 2 * steps
    assert (
        (colab.voice / "run" / "history.jsonl").read_text().startswith(history)
    )  # nothing was done anew
    return [call[0] for call in colab.calls[calls:]]


def test_all_cells_and_those_up_to_the_training_again(
    sample_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICRO_FOR_NANO", "1")
    colab = Colab(tmp_path)
    first_time(colab, sample_voice, monkeypatch)
    assert again(colab, monkeypatch, until="studio.train(") == ["mount", "tensorboard"]


@pytest.mark.heavy
def test_all_cells_twice_with_nano(
    sample_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab = Colab(tmp_path)
    first_time(colab, sample_voice, monkeypatch)
    assert again(colab, monkeypatch) == [
        "mount",
        "tensorboard",
        "download",
        "flush",
        "unassign",
    ]


def test_a_mistake_is_one_line_and_the_cells_below_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab = Colab(tmp_path)
    with pytest.raises(CellExecutionError) as caught:
        colab.run(monkeypatch, VOICE="../ada")
    assert "VOICE '../ada' can't be a name" in caught.value.traceback
    for word in ("Traceback", "studio.py", "session.py"):
        assert word not in caught.value.traceback
    assert not (tmp_path / "calls.jsonl").exists()
