"""The steps of the notebook, one method each. All can be run again: each continues what is
there."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rvc_jax.config import Rate
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes, format_duration
from rvc_jax.notebook import colab, estimate, runtime
from rvc_jax.notebook.page import frame, play, show_text
from rvc_jax.notebook.program import NotebookError, Program
from rvc_jax.notebook.progress import Progress
from rvc_jax.notebook.translations import LANGUAGES, Translations
from rvc_jax.notebook.workspace import Workspace, is_inside, is_name, recordings
from rvc_jax.train.budget import Budget
from rvc_jax.version import __version__

_DRIVE = Path("drive")
_MY_DRIVE = "MyDrive"
_EXAMPLE = (
    "from rvc_jax.data.sources import find_bundled_sample; print(find_bundled_sample('other'))"
)
_PAUSE = 1.0


def start(language: str, install_from: str = "", units_per_hour: float = 0) -> Studio:
    """Step 1: check the runtime, install rvc_jax for it, and describe it.

    Args:
      language: a name of `LANGUAGES`.
      install_from: repository or file to install rvc_jax from, unless it is installed.
      units_per_hour: rate of the runtime as Colab shows it; 0 takes the table's.

    Raises:
      NotebookError: the installation failed, or JAX cannot reach the accelerator.
    """
    texts = Translations(LANGUAGES[language])
    found = runtime.accelerator()
    rate = Rate(units_per_hour, 0.0) if units_per_hour > 0 else found.rate
    show_text(
        texts(_about(found), name=found.name), "notice" if found.kind == "cpu" else "good"
    )
    show_text(texts("python", version=sys.version.split()[0]))
    if rate:
        show_text(texts("rate", units=rate.units_per_hour, hours=100 / rate.units_per_hour))
    else:
        show_text(texts("no_rate"))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": found.platforms,
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "agg",
    }
    program = Program(_python(texts, install_from, found.kind), environment)
    try:
        devices = runtime.Devices(*json.loads(program.evaluate(runtime.PROBE)))
    except UserError as error:
        raise NotebookError(texts("no_devices", reason=error)) from None
    show_text(texts("installed", version=__version__, jax=devices.jax, devices=devices), "good")
    return Studio(texts, program, found, devices, units_per_hour)


def _about(found: runtime.Accelerator) -> str:
    return "tpu_other" if found.kind == "tpu" and found.rate is None else found.kind


def _python(texts: Translations, install_from: str, kind: str) -> Path:
    """Return a Python that has everything: this one, or one made for it."""
    if runtime.is_complete(kind):
        return Path(sys.executable)
    if not install_from:
        raise NotebookError(texts("no_source"))
    show_text(texts("installing"))
    try:
        return runtime.install(
            install_from, kind, colab.content_folder() / "rvc_jax_environment"
        )
    except UserError as error:
        raise NotebookError(texts("not_installed", reason=error)) from None


def _step(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a method's UserErrors into NotebookErrors, which are shown as one line."""

    @functools.wraps(method)
    def shown(self: Studio, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except NotebookError:
            raise
        except UserError as error:
            raise NotebookError(str(error)) from None

    return shown


class Studio:
    """What the cells after the first one call. Errors of the user are `NotebookError`s of one
    line."""

    def __init__(
        self,
        texts: Translations,
        program: Program,
        accelerator: runtime.Accelerator,
        devices: runtime.Devices,
        units_per_hour: float = 0,
    ):
        """units_per_hour: rate of the whole runtime, stated by the user; 0 takes the table's."""
        self.texts = texts
        self.program = program
        self.accelerator = accelerator
        self.devices = devices
        known = accelerator.rate.units_per_hour * devices.count if accelerator.rate else None
        self._has_stated_rate = units_per_hour > 0
        self._units_per_hour = units_per_hour if self._has_stated_rate else known
        self._voice: Workspace | None = None
        self._device: int | None = None

    @property
    def voice(self) -> Workspace:
        """The folder of the voice named in step 2.

        Raises NotebookError if Drive is not mounted any more: files written to its folder would be
        lost with the runtime.
        """
        if self._voice is None:
            raise NotebookError(self.texts("no_voice"))
        if self._voice.on_drive and colab.device(self._voice.path) != self._device:
            raise NotebookError(self.texts("drive_gone"))
        return self._voice

    @_step
    def open_voice(self, name: str, use_drive: bool, drive_folder: str = "rvc_voices") -> None:
        """Step 2: choose where everything is kept, and show what is there."""
        if not is_name(name := name.strip()):
            raise NotebookError(self.texts("bad_name", name=name))
        if not is_inside(drive_folder := drive_folder.strip()):
            raise NotebookError(self.texts("bad_folder", name=drive_folder))
        on_drive = use_drive and colab.is_colab()
        root = (self._mounted() if on_drive else colab.content_folder()) / drive_folder
        self._voice = voice = Workspace(root, name, on_drive)
        self._device = colab.device(voice.path)
        show_text(
            self.texts("on_drive" if on_drive else "not_on_drive", folder=voice.path),
            "good" if on_drive else "notice",
        )
        # without Drive nothing of it outlives the runtime, and the program's own place will do
        if on_drive:
            self.program.environment.setdefault(
                "JAX_COMPILATION_CACHE_DIR", str(voice.compiled)
            )
        if there := list(self._there()):
            show_text(self.texts("there", what=", ".join(there)))

    def _mounted(self) -> Path:
        try:
            colab.mount(colab.content_folder() / _DRIVE)
        except Exception as error:  # anything that Colab raises: a refusal, a time limit
            raise NotebookError(self.texts("no_mount", reason=error)) from None
        return colab.content_folder() / _DRIVE / _MY_DRIVE

    def _there(self) -> Iterator[str]:
        voice = self.voice
        if voice.speech.is_dir() and (count := len(recordings(voice.speech))):
            yield self.texts("there_speech", count=count)
        if (voice.dataset / "metadata.json").exists():
            yield self.texts("there_dataset")
        if beat := voice.beat:
            yield self.texts("there_run", state=beat.get("state"), step=beat.get("step"))

    @_step
    def add_speech(
        self, where: str, links: str = "", folder: str = "", upload_more: bool = False
    ) -> None:
        """Step 3, speech: from links, from uploads, or from a folder."""
        voice = self.voice
        kind = where.split()[0]
        source = voice.speech
        if kind == "links":
            self._fetch(links.split())
        elif kind == "upload":
            self._upload(upload_more)
        else:
            source = (
                colab.content_folder() / _DRIVE / folder.strip()
                if voice.on_drive
                else Path(folder.strip())
            )
            if not folder.strip() or not source.is_dir():
                raise NotebookError(self.texts("no_folder", folder=source))
        voice.note(speech=str(source))
        show_text(self.texts("speech", count=len(recordings(source)), folder=source), "good")

    def _fetch(self, links: list[str]) -> None:
        if not links:
            raise NotebookError(self.texts("links_needed"))
        fetched = self.program.run(
            "fetch", *links, "--out", self.voice.speech, on_event=Progress(self.texts)
        )
        for skipped in fetched["skipped"]:
            show_text(
                self.texts("skipped", name=skipped["name"], reason=skipped["reason"]), "notice"
            )

    def _upload(self, more: bool) -> None:
        folder = self.voice.speech
        kept = len(recordings(folder)) if folder.is_dir() else 0
        if kept and not more:
            show_text(self.texts("kept_uploads", count=kept))
            return
        if not colab.is_colab():
            raise NotebookError(self.texts("upload_only"))
        if not colab.upload(folder):
            raise NotebookError(self.texts("nothing_uploaded"))

    @_step
    def prepare(self, preset: str) -> None:
        """Step 3, preparation: make a dataset, using features computed before."""
        voice = self.voice
        speech = Path(voice.state.get("speech", ""))
        if "speech" not in voice.state or not speech.is_dir():
            raise NotebookError(self.texts("no_speech"))
        made_of = {"speech": str(speech), "preset": preset, "files": recordings(speech)}
        before = voice.state.get("dataset", {})
        if before.get("made_of") == made_of and (voice.dataset / "metadata.json").exists():
            show_text(self.texts("prepared_before"))
            info = before
        else:
            overwrite = ["--overwrite"] if (voice.dataset / "metadata.json").exists() else []
            info = self.program.run(
                "prepare",
                speech,
                "--out",
                voice.dataset,
                "--preset",
                preset,
                "--speakers",
                "one",
                "--cache",
                voice.features,
                *overwrite,
                on_event=Progress(self.texts),
            )
            kept = {
                key: info[key]
                for key in ("speech_minutes", "train_slices", "holdout_seconds", "dropped")
            }
            voice.note(dataset={"made_of": made_of, "preset": preset, **kept})
            voice.audit.unlink(missing_ok=True)
        for name, reason in (
            (name, reason) for name, second, reason in info["dropped"] if second is None
        ):
            show_text(
                self.texts("skipped", name=name, reason=reason), "notice"
            )  # files; slices are in the audit
        show_text(
            self.texts(
                "prepared",
                minutes=info["speech_minutes"],
                slices=info["train_slices"],
                held=info["holdout_seconds"],
            ),
            "good",
        )

    def _prepared(self) -> dict[str, Any]:
        """Return the notes on the dataset. Raises NotebookError if there is none."""
        if not (dataset := self.voice.state.get("dataset")) or not self.voice.dataset.is_dir():
            raise NotebookError(self.texts("no_dataset"))
        return dataset

    @_step
    def audit(self) -> None:
        """Step 3, quality: show what is wrong with the speech, and what to do about it."""
        voice = self.voice
        self._prepared()
        if not voice.audit.exists() or "advice" not in voice.state:
            audited = self.program.run(
                "audit", voice.dataset, "--out", voice.audit, on_event=Progress(self.texts)
            )
            voice.note(advice=audited["advice"])
        show_text(self.texts("advice"))
        for advice in voice.state["advice"]:
            verdict = advice["verdict"]
            show_text(f"{self.texts(verdict)}: {advice['text']} ({advice['reason']})", verdict)
        frame(voice.audit)
        show_text(self.texts("page", file=voice.audit))

    @_step
    def estimate(self, epochs: int, measure: bool = True) -> None:
        """Step 4: estimate time and units of the training."""
        dataset = self._prepared()
        steps = estimate.count_steps(
            dataset["train_slices"], epochs, dataset["preset"], self.devices.count
        )
        plan = estimate.find_plan(self.accelerator.name, self.devices.count, dataset["preset"])
        if plan is not None:
            step_seconds = plan["step_ms"] / 1000
            source = self.texts("estimated_by_plan")
        elif (known := self._measured(dataset["preset"], measure)) is not None:
            step_seconds = known
            source = self.texts(
                "estimated_by_steps", steps=estimate.MEASURED_STEPS[self.accelerator.kind]
            )
        else:
            show_text(self.texts("unknown"), "notice")
            return
        seconds = steps * step_seconds
        show_text(
            self.texts(
                "estimate",
                epochs=epochs,
                steps=steps,
                milliseconds=1000 * step_seconds,
                minutes=format_duration(seconds),
                units=self._units(seconds),
            ),
            "good",
        )
        show_text(source)
        if plan is not None:
            self._show_compilation(plan["compile_s"])
        if done := self.voice.beat.get("step"):
            show_text(self.texts("steps_done", done=done))

    def _show_compilation(self, seconds: float) -> None:
        folder = self.voice.compiled
        if folder.is_dir() and any(folder.iterdir()):
            show_text(self.texts("compiled_before"))
        else:
            show_text(
                self.texts(
                    "compile", minutes=format_duration(seconds), units=self._units(seconds)
                )
            )

    def _units(self, seconds: float) -> str:
        if not self._units_per_hour:
            return ""
        return self.texts("units", units=seconds / 3600 * self._units_per_hour)

    def _measured(self, preset: str, measure: bool) -> float | None:
        """Return the seconds per step on this chip, from the notes or measured; None if unknown."""
        what = f"{self.devices} {preset}"
        measured = self.voice.state.get("measured", {})
        if what not in measured and measure:
            show_text(self.texts("measuring"))
            with tempfile.TemporaryDirectory() as folder:
                trained = self.program.run(
                    "train",
                    self.voice.dataset,
                    "--run",
                    Path(folder) / "run",
                    "--steps",
                    estimate.MEASURED_STEPS[self.accelerator.kind],
                    "--pretrained",
                    "none",
                    "--progress",
                    "json",
                    on_event=Progress(self.texts),
                )
            if trained["steps_per_second"]:
                measured = {**measured, what: 1 / trained["steps_per_second"]}
                self.voice.note(measured=measured)
        return measured.get(what)

    @_step
    def tensorboard(self) -> None:
        """Step 5, curves: show TensorBoard, which follows the training."""
        try:
            if importlib.util.find_spec("tensorboard") is None:
                subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--quiet", "tensorboard"],
                    check=True,
                )
                importlib.invalidate_caches()
            from tensorboard import (  # pyright: ignore[reportMissingImports] installed above
                notebook,
            )

            folder = self.voice.run / "metrics"
            notebook.start(f"--logdir {shlex.quote(str(folder))} --reload_interval 15")
        except NotebookError:
            raise
        except Exception as error:  # training works without its curves
            show_text(self.texts("no_tensorboard", reason=error), "notice")

    @_step
    def train(
        self,
        epochs: int,
        budget: str = "",
        save_every: int = 50,
        release: bool = False,
        delay_minutes: float = 0,
    ) -> None:
        """Step 5: start or continue the run; with `release`, then export the voice and end the
        runtime."""
        voice = self.voice
        dataset = self._prepared()
        spend = ["--budget", self._budget(budget)] if budget.strip() else []
        show_text(self.texts("training"))
        progress = Progress(self.texts, self._units_per_hour)
        trained = self.program.run(
            "train",
            voice.dataset,
            "--run",
            voice.run,
            "--preset",
            dataset["preset"],
            "--epochs",
            epochs,
            "--save-every",
            save_every,
            *spend,
            "--progress",
            "json",
            on_event=progress,
            on_interrupt=progress.show_saving,
        )
        stopped = trained["interrupted"] and not trained["used_up"]
        ending = "used_up" if trained["used_up"] else "interrupted" if stopped else "trained"
        show_text(self.texts(ending, steps=trained["steps"]), "notice" if stopped else "good")
        self._show_training(trained)
        if release and stopped:
            show_text(self.texts("kept"), "notice")
        elif release:
            self.export(download=False)
            self.release(True, delay_minutes)

    def _budget(self, written: str) -> str:
        """Return the budget for the command; units become time if the user has stated another
        rate."""
        rate = self.accelerator.rate
        if self._has_stated_rate and self._units_per_hour is not None:
            rate = Rate(self._units_per_hour, 0.0)
        budget = Budget.parse(written, rate, 1)
        return (
            f"{budget.seconds / 60:.2f}min"
            if self._has_stated_rate and budget.unit == "unit"
            else written.strip()
        )

    def _show_training(self, trained: dict[str, Any]) -> None:
        if trained["holdout_before"] is not None and trained["holdout_after"] is not None:
            show_text(
                self.texts(
                    "better", before=trained["holdout_before"], after=trained["holdout_after"]
                )
            )
        for sentence in trained["outlook"]:
            show_text(sentence)
        report = self.voice.run / "report.html"
        if report.exists():
            show_text(self.texts("listen"))
            frame(report)
            show_text(self.texts("page", file=report))
        if self.voice.on_drive:
            show_text(self.texts("bin"))

    @_step
    def convert(
        self, where: str, file: str = "", transpose: str = "auto", format: str = "mp3"
    ) -> None:
        """Step 6, use: convert recordings to the voice."""
        voice = self.voice
        if voice.best_step is None:
            raise NotebookError(self.texts("no_run"))
        pitch = self._pitch(transpose.strip())
        voice.converted.mkdir(exist_ok=True)
        for source in self._sources(where.split()[0], file.strip()):
            out = voice.converted / f"{source.stem}.{format}"
            self.program.run(
                "convert", voice.run, source, out, *pitch, on_event=Progress(self.texts)
            )
            show_text(self.texts("source"))
            play(source)
            show_text(self.texts("converted", file=out), "good")
            play(out)

    def _pitch(self, transpose: str) -> list[str]:
        try:
            return (
                ["--auto-transpose"]
                if transpose == "auto"
                else ["--transpose", f"{float(transpose):g}"]
            )
        except ValueError:
            raise NotebookError(self.texts("bad_transpose", transpose=transpose)) from None

    def _sources(self, kind: str, file: str) -> list[Path]:
        if kind == "upload":
            if not colab.is_colab():
                raise NotebookError(self.texts("upload_only"))
            if not (files := colab.upload(self.voice.recordings)):
                raise NotebookError(self.texts("nothing_uploaded"))
            return files
        if kind == "example":
            return list(Path(self.program.evaluate(_EXAMPLE)).glob("*.flac"))
        path = colab.content_folder() / _DRIVE / file if self.voice.on_drive else Path(file)
        if not file or not path.is_file():
            raise NotebookError(self.texts("no_recording", file=path))
        return [path]

    @_step
    def export(self, download: bool = True) -> None:
        """Step 6, files: export and verify the voice; download a zip of it."""
        voice = self.voice
        if (step := voice.best_step) is None:
            raise NotebookError(self.texts("no_run"))
        before = voice.state.get("export", {})
        if before.get("step") == step and before["files"] and voice.damaged_export() is None:
            show_text(self.texts("export_checked", files=", ".join(before["files"])), "good")
        else:
            voice.note(export={})
            written = self.program.run(
                "export",
                voice.run,
                "--out",
                voice.export,
                "--name",
                voice.name,
                on_event=Progress(self.texts),
            )
            files = {file["name"]: file["sha256"] for file in written["files"]}
            voice.note(export={"step": step, "files": files})
            for note in written["notes"]:
                show_text(note)
            show_text(
                self.texts("exported", files=", ".join(files), folder=voice.export), "good"
            )
        if download and colab.is_colab():
            archive = self._archive()
            show_text(
                self.texts(
                    "download", file=archive.name, size=format_bytes(archive.stat().st_size)
                )
            )
            if voice.on_drive:
                show_text(self.texts("download_on_drive"))
            colab.download(archive)

    def _archive(self) -> Path:
        """Return the zip that voices are shared as; for a voice of our own format, one of all
        files."""
        voice = self.voice
        if (shared := voice.export / f"{voice.name}.zip").name in voice.state["export"][
            "files"
        ]:
            return shared
        base = Path(tempfile.mkdtemp()) / voice.name
        return Path(shutil.make_archive(str(base), "zip", voice.export))

    @_step
    def release(
        self, wanted: bool, delay_minutes: float = 0, have_the_files: bool = False
    ) -> None:
        """Step 7: end the runtime if the export is intact and on Drive; otherwise keep it.

        Args:
          wanted: whether to end it at all.
          delay_minutes: to wait before.
          have_the_files: whether the user has downloaded them; needed without Drive.
        """
        voice = self.voice
        if not wanted:
            show_text(self.texts("stays"), "notice")
            return
        if not colab.is_colab():
            show_text(self.texts("not_on_colab"))
            return
        self._check_export(have_the_files)
        if delay_minutes > 0 and not self._waited(delay_minutes):
            return
        if voice.on_drive:
            try:
                colab.send_to_drive()
            except (
                Exception
            ) as error:  # anything that Colab raises: what is not on Drive must not be lost
                raise NotebookError(self.texts("not_sent", reason=error)) from None
        show_text(self.texts("releasing"), "good")  # nothing is shown after it
        try:
            colab.release()
        except Exception as error:
            raise NotebookError(self.texts("not_released", reason=error)) from None

    def _check_export(self, have_the_files: bool) -> None:
        voice = self.voice
        export = voice.state.get("export")
        if not export or not export.get("files"):
            raise NotebookError(self.texts("no_export"))
        if (damaged := voice.damaged_export()) is not None:
            raise NotebookError(self.texts("export_damaged", file=damaged))
        if export["step"] != voice.best_step:
            raise NotebookError(self.texts("export_older"))
        if not voice.on_drive and not have_the_files:
            raise NotebookError(self.texts("not_safe"))

    def _waited(self, minutes: float) -> bool:
        """Wait; return whether the user let the time pass without stopping the cell."""
        show_text(self.texts("waiting", minutes=minutes))
        end = time.monotonic() + 60 * minutes
        try:
            while time.monotonic() < end:
                time.sleep(min(_PAUSE, max(end - time.monotonic(), 0)))
        except KeyboardInterrupt:
            show_text(self.texts("kept"), "notice")
            return False
        return True
