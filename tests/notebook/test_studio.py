"""The notebook's steps, with a stand-in for the commands and for Colab."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvc_jax.config import RATES
from rvc_jax.errors import UserError
from rvc_jax.notebook import colab, studio
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.runtime import Accelerator, Devices
from rvc_jax.notebook.studio import Studio
from rvc_jax.notebook.translations import Translations

V5E = Accelerator("tpu", "v5e")
T4 = Accelerator("gpu", "Tesla T4")


class Commands:
    """Stands in for `rvc-jax`: writes what a command would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.best = 40
        self.trained = {}

    def run(
        self,
        command: str,
        *arguments: object,
        on_event: Callable,
        on_interrupt: Callable = lambda: None,
    ) -> Any:
        self.asked.append([command, *map(str, arguments)])
        if command in self.fails:
            raise UserError(self.fails[command])
        on_event({"event": "line", "text": command})
        return getattr(self, f"_{command}")(*map(str, arguments))

    def names(self) -> list[str]:
        return [asked[0] for asked in self.asked]

    def option(self, command: str, name: str) -> str:
        (asked,) = (asked for asked in self.asked if asked[0] == command)
        return asked[asked.index(name) + 1]

    def _fetch(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(parents=True)
        (folder / "talk.opus").write_bytes(b"sound")
        (folder / "talk.opus.source.json").write_text("{}")
        return {"skipped": [{"name": "second", "reason": "it is private"}]}

    def _prepare(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(exist_ok="--overwrite" in arguments)
        (folder / "metadata.json").write_text("{}")
        return {
            "speech_minutes": 20.0,
            "train_slices": 424,
            "holdout_seconds": 60.0,
            "dropped": [["bad.mp3", None, "damaged"], ["one.wav", 3.0, "too short"]],
        }

    def _audit(self, *arguments: str) -> Any:
        Path(arguments[arguments.index("--out") + 1]).write_text("<p>heard</p>")
        return {
            "advice": [
                {
                    "verdict": "good",
                    "text": "Enough.",
                    "reason": "20 minutes",
                    "topic": "amount",
                }
            ]
        }

    def _train(self, *arguments: str) -> Any:
        run = Path(arguments[arguments.index("--run") + 1])
        (run / "best" / str(self.best)).mkdir(parents=True)
        (run / "report.html").write_text("<p>curves</p>")
        return {
            "steps": 53,
            "steps_per_second": 4.0,
            "interrupted": False,
            "used_up": False,
            "holdout_before": 2.0,
            "holdout_after": 1.0,
            "outlook": [],
            **self.trained,
        }

    def _convert(self, run: str, source: str, out: str, *options: str) -> Any:
        Path(out).write_bytes(b"sound")

    def _export(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(exist_ok=True)
        (folder / "ada.pth").write_bytes(b"weights")
        return {
            "files": [{"name": "ada.pth", "sha256": hashlib.sha256(b"weights").hexdigest()}],
            "notes": [],
        }


class FakeColab:
    """Stands in for what only Colab has."""

    def __init__(self, content: Path, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[str] = []
        self.chosen: list[str] = []
        self.fails: dict[str, Exception] = {}
        monkeypatch.setattr(colab, "content_folder", lambda: content)
        monkeypatch.setattr(colab, "is_colab", lambda: True)
        for name in ("mount", "send_to_drive", "release", "download"):
            monkeypatch.setattr(colab, name, self._called(name))
        monkeypatch.setattr(colab, "upload", self._upload)

    def _called(self, name: str) -> Callable:
        def call(*_: object) -> None:
            self.calls.append(name)
            if name in self.fails:
                raise self.fails[name]

        return call

    def _upload(self, folder: Path) -> list[Path]:
        self.calls.append("upload")
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.chosen:
            (folder / name).write_bytes(b"sound")
        return [folder / name for name in self.chosen]


class Room:
    """Steps with stand-ins, and what they show."""

    def __init__(self, content: Path, monkeypatch: pytest.MonkeyPatch):
        self.colab = FakeColab(content, monkeypatch)
        self.commands = Commands()
        self.shown = []
        self.content = content
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(
            studio, "show_text", lambda text, kind="plain": self.shown.append(text)
        )
        monkeypatch.setattr(studio, "play", lambda file: self.shown.append(f"[{file.name}]"))
        monkeypatch.setattr(studio, "frame", lambda page: self.shown.append(f"[{page.name}]"))

    def studio(
        self, accelerator: Accelerator = V5E, units_per_hour: float = 0, use_drive: bool = True
    ) -> Studio:
        devices = Devices("TPU v5 lite", 1, "0.12.0")
        made = Studio(Translations("en"), self.commands, accelerator, devices, units_per_hour)
        made.open_voice("ada", use_drive)
        return made

    def prepared(self, **options: Any) -> Studio:
        made = self.studio(**options)
        self.colab.chosen = ["one.wav", "two.wav"]
        made.add_speech("upload (envoyer)")
        made.prepare("40k")
        return made

    def trained(self, **options: Any) -> Studio:
        made = self.prepared(**options)
        made.train(200)
        return made

    @property
    def text(self) -> str:
        return "\n".join(self.shown)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def test_what_lies_on_drive(room: Room) -> None:
    made = room.studio()
    assert (
        made.voice.path == room.content / "drive" / "MyDrive" / "rvc_voices" / "ada"
        and made.voice.path.is_dir()
    )
    assert room.commands.environment["JAX_COMPILATION_CACHE_DIR"] == str(
        made.voice.path.parent / "compiled"
    )
    assert room.colab.calls == ["mount"]


def test_without_drive(room: Room) -> None:
    made = room.studio(use_drive=False)
    assert made.voice.path == room.content / "rvc_voices" / "ada"
    assert (
        room.colab.calls == [] and "JAX_COMPILATION_CACHE_DIR" not in room.commands.environment
    )
    assert "a disconnect loses it" in room.text


def test_drive_that_was_refused(room: Room) -> None:
    room.colab.fails["mount"] = ValueError("mount failed")
    with pytest.raises(NotebookError, match="mount failed.*untick USE_GOOGLE_DRIVE"):
        room.studio()


@pytest.mark.parametrize(
    "name", ["", "../ada", "a/b", "ada.", "con", "G_2333333", "x" * 61, "a\nb", ".ada"]
)
def test_names_that_are_none(room: Room, name: str) -> None:
    with pytest.raises(NotebookError, match="can't be a name"):
        room.studio().open_voice(name, False)


@pytest.mark.parametrize("folder", ["", "..", "a/../../b", "/etc"])
def test_folders_outside_of_drive(room: Room, folder: str) -> None:
    with pytest.raises(NotebookError, match="inside your Drive"):
        room.studio().open_voice("ada", True, folder)


def test_a_mistake_is_one_line_in_a_notebook(room: Room) -> None:
    with pytest.raises(NotebookError) as caught:
        Studio(Translations("fr"), room.commands, V5E, Devices("", 1, "")).prepare("40k")
    (line,) = caught.value._render_traceback_()
    assert "Lancez d'abord l'étape 2" in line and "Traceback" not in line


def test_uploads_are_asked_for_once(room: Room) -> None:
    made = room.studio()
    room.colab.chosen = ["one.wav"]
    made.add_speech("upload (envoyer)")
    made.add_speech("upload (envoyer)")
    assert (
        room.colab.calls.count("upload") == 1
        and "1 recordings were uploaded before" in room.text
    )
    room.colab.chosen = ["two.wav"]
    made.add_speech("upload (envoyer)", upload_more=True)
    assert "Speech: 2 files" in room.shown[-1]


def test_nothing_was_chosen(room: Room) -> None:
    with pytest.raises(NotebookError, match="Nothing was uploaded"):
        room.studio().add_speech("upload (envoyer)")


def test_links(room: Room) -> None:
    made = room.studio()
    with pytest.raises(NotebookError, match="LINKS is empty"):
        made.add_speech("links (liens)", "  ")
    made.add_speech("links (liens)", "https://a.example/1 https://a.example/2")
    assert room.commands.asked[0][1:3] == ["https://a.example/1", "https://a.example/2"]
    assert "Skipped second: it is private" in room.text and "Speech: 1 files" in room.shown[-1]


def test_a_folder_of_drive_is_used_where_it_is(room: Room) -> None:
    made = room.studio()
    with pytest.raises(NotebookError, match="no folder .*MyDrive/talks"):
        made.add_speech("folder (dossier)", folder="MyDrive/talks")
    talks = room.content / "drive" / "MyDrive" / "talks"
    talks.mkdir()
    (talks / "one.wav").write_bytes(b"sound")
    made.add_speech("folder (dossier)", folder="MyDrive/talks")
    made.prepare("48k")
    assert (
        room.commands.asked[0][1] == str(talks)
        and room.commands.option("prepare", "--preset") == "48k"
    )


def test_a_dataset_is_made_again_only_of_other_speech_or_settings(room: Room) -> None:
    made = room.prepared()
    made.prepare("40k")
    assert room.commands.names() == ["prepare"] and "is used again" in room.text
    made.prepare("48k")
    (made.voice.speech / "three.wav").write_bytes(b"sound")
    made.prepare("48k")
    assert room.commands.names() == ["prepare"] * 3
    assert ["--overwrite" in asked for asked in room.commands.asked] == [False, True, True]
    assert room.text.count("Skipped bad.mp3: damaged") == 4 and "too short" not in room.text


def test_the_audit_is_shown_and_made_once(room: Room) -> None:
    made = room.prepared()
    made.audit()
    made.audit()
    assert room.commands.names() == ["prepare", "audit"]
    assert (
        room.shown.count("good: Enough. (20 minutes)") == 2
        and room.shown.count("[audit.html]") == 2
    )


def test_steps_before_their_time(room: Room) -> None:
    made = room.studio()
    early = {
        "speech cell first": [lambda: made.prepare("40k")],
        "step 3": [made.audit, lambda: made.estimate(200), lambda: made.train(200)],
        "step 5": [lambda: made.convert("example"), made.export],
        "step 6": [lambda: made.release(True)],
    }
    for words, steps in early.items():
        for step in steps:
            with pytest.raises(NotebookError, match=words):
                step()
    assert room.commands.asked == [] and "release" not in room.colab.calls


def planned() -> dict[str, float]:
    """What docs/plan.json says of the voice of these tests on v5e."""
    return json.loads((Path(__file__).parents[2] / "docs" / "plan.json").read_text())[
        "v5e:1x1 40k 8"
    ]


def test_the_estimate_of_a_planned_chip(room: Room) -> None:
    made = room.prepared()
    made.estimate(200)
    plan = planned()
    seconds = 53 * 200 * plan["step_ms"] / 1000
    units = seconds / 3600 * RATES["v5e"].units_per_hour
    assert f"10600 steps of {plan['step_ms']:.0f} ms: about {seconds / 60:.0f} min" in room.text
    assert f"{units:.2f} compute units" in room.text and "not a measurement" in room.text
    assert f"it took {plan['compile_s'] / 60:.0f} min" in room.text
    assert "train" not in room.commands.names()


def test_the_users_own_rate(room: Room) -> None:
    made = room.prepared(units_per_hour=10)
    made.estimate(200)
    hours = 53 * 200 * planned()["step_ms"] / 1000 / 3600
    assert f"{10 * hours:.2f} compute units" in room.text
    made.train(200, "5units")
    assert room.commands.option("train", "--budget") == "30.00min"


def test_a_chip_without_a_plan_is_measured_once(room: Room) -> None:
    made = room.prepared(accelerator=T4)
    made.estimate(100, measure=False)
    assert "is not known" in room.shown[-1] and "train" not in room.commands.names()
    made.estimate(100)
    made.estimate(100)
    assert room.commands.names().count("train") == 1
    assert room.commands.option("train", "--steps") == "96"
    assert (
        room.text.count("5300 steps of 250 ms: about 22 min of training, 0.39 compute units")
        == 2
    )


def test_the_training_command(room: Room) -> None:
    made = room.prepared()
    made.train(300, " 5units ", 20)
    expected = {
        "--run": str(made.voice.run),
        "--preset": "40k",
        "--epochs": "300",
        "--save-every": "20",
    }
    expected |= {"--budget": "5units", "--progress": "json"}
    assert {name: room.commands.option("train", name) for name in expected} == expected
    assert (
        "2.000 at the start, 1.000 for the best voice" in room.text
        and "[report.html]" in room.shown
    )
    assert "release" not in room.colab.calls


def test_a_budget_that_is_none(room: Room) -> None:
    made = room.prepared()
    with pytest.raises(NotebookError, match="cannot be read"):
        made.train(300, "a lot")
    assert "train" not in room.commands.names()


@pytest.mark.parametrize("used_up", [False, True])
def test_when_training_or_its_budget_ends_the_runtime_goes_after_the_export(
    room: Room, used_up: bool
) -> None:
    made = room.prepared()
    room.commands.trained = {"interrupted": used_up, "used_up": used_up}
    made.train(300, release=True)
    assert room.commands.names()[-2:] == ["train", "export"]
    assert room.colab.calls[-2:] == ["send_to_drive", "release"]


def test_a_stopped_training_keeps_the_runtime(room: Room) -> None:
    made = room.prepared()
    room.commands.trained = {"interrupted": True}
    made.train(300, release=True)
    assert "release" not in room.colab.calls and "goes on costing units" in room.shown[-1]


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_failure_keeps_the_runtime(room: Room, command: str) -> None:
    made = room.prepared()
    room.commands.fails[command] = "disk full: the voice"
    with pytest.raises(NotebookError, match="^disk full: the voice$"):
        made.train(300, release=True)
    assert "release" not in room.colab.calls
    with pytest.raises(NotebookError, match="The runtime stays"):
        made.release(True)
    assert "release" not in room.colab.calls


def damage(made: Studio) -> None:
    (made.voice.export / "ada.pth").write_bytes(b"weight")


def lose(made: Studio) -> None:
    (made.voice.export / "ada.pth").unlink()


def train_further(made: Studio) -> None:
    (made.voice.run / "best" / "50").mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage, "is missing or has changed"),
        (lose, "is missing or has changed"),
        (train_further, "trained further"),
    ],
)
def test_an_export_that_is_not_right_keeps_the_runtime(
    room: Room, change: Callable[[Studio], None], words: str
) -> None:
    made = room.trained()
    made.export()
    change(made)
    with pytest.raises(NotebookError, match=words):
        made.release(True)
    assert "release" not in room.colab.calls
    made.export()
    made.release(True)
    assert room.colab.calls[-1] == "release"


def test_drive_that_does_not_take_the_export_keeps_the_runtime(room: Room) -> None:
    made = room.trained()
    made.export()
    room.colab.fails["send_to_drive"] = ValueError("timed out")
    with pytest.raises(NotebookError, match="did not take everything: timed out"):
        made.release(True)
    assert "release" not in room.colab.calls


def test_drive_that_is_gone_keeps_the_runtime(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = room.trained()
    made.export()
    monkeypatch.setattr(
        colab, "device", lambda folder: 1
    )  # the runtime's own disk is under that path now
    for step in (lambda: made.release(True), lambda: made.train(300), made.export):
        with pytest.raises(NotebookError, match="not mounted any more"):
            step()
    assert "release" not in room.colab.calls and room.commands.names().count("train") == 1


def test_colab_that_does_not_release_says_what_to_do(room: Room) -> None:
    made = room.trained()
    made.export()
    room.colab.fails["release"] = RuntimeError("500")
    with pytest.raises(NotebookError, match="500.*by hand"):
        made.release(True)


def test_without_drive_the_files_must_be_the_users(room: Room) -> None:
    made = room.trained(use_drive=False)
    made.export()
    with pytest.raises(NotebookError, match="I_HAVE_THE_FILES"):
        made.release(True)
    assert room.colab.calls == ["upload", "download"]
    made.release(True, have_the_files=True)
    assert room.colab.calls[-1] == "release" and "send_to_drive" not in room.colab.calls


def test_release_is_asked_for_and_may_wait(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    made = room.trained()
    made.export()
    made.release(False)
    assert "release" not in room.colab.calls and "not ticked" in room.shown[-1]
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    made.release(True, 3)
    assert now[0] == pytest.approx(180) and room.colab.calls[-1] == "release"


def test_stopping_the_wait_keeps_the_runtime(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = room.trained()
    made.export()

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)
    made.release(True, 3)
    assert "release" not in room.colab.calls and "The runtime stays" in room.shown[-1]


def test_an_intact_export_is_not_made_again(room: Room) -> None:
    made = room.trained()
    made.export()
    made.export(download=False)
    assert (
        room.commands.names().count("export") == 1 and room.colab.calls.count("download") == 1
    )


def test_converting(room: Room) -> None:
    made = room.trained()
    room.colab.chosen = ["song.mp3", "talk.wav"]
    made.convert("upload (envoyer)", transpose="-12", format="wav")
    asked = [asked for asked in room.commands.asked if asked[0] == "convert"]
    assert [Path(each[3]).name for each in asked] == ["song.wav", "talk.wav"]
    assert all(each[4:] == ["--transpose", "-12"] for each in asked)
    assert [text for text in room.shown if text.startswith("[s")] == [
        "[song.mp3]",
        "[song.wav]",
    ]
    with pytest.raises(NotebookError, match="TRANSPOSE 'up'"):
        made.convert("upload (envoyer)", transpose="up")
    with pytest.raises(NotebookError, match="no recording"):
        made.convert("file (fichier)", "MyDrive/none.mp3")


def test_outside_of_colab(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab, "is_colab", lambda: False)
    made = room.studio()
    assert room.colab.calls == [] and made.voice.path == room.content / "rvc_voices" / "ada"
    with pytest.raises(NotebookError, match="Uploads only work on Colab"):
        made.add_speech("upload (envoyer)")
    made.release(True)
    assert "not Colab" in room.shown[-1]
