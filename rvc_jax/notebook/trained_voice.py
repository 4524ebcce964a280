"""Steps 6 and 7 of the notebook: use and export the trained voice, then end the runtime."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from rvc_jax.formatting import format_bytes
from rvc_jax.notebook import colab
from rvc_jax.notebook.page import play, show_text
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.progress import Progress
from rvc_jax.notebook.session import DRIVE, Session, step

_EXAMPLE = (
    "from rvc_jax.data.sources import find_bundled_sample; print(find_bundled_sample('other'))"
)
_PAUSE = 1.0


class TrainedVoiceSteps(Session):
    """The cells of steps 6 and 7."""

    @step
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
        path = colab.content_folder() / DRIVE / file if self.voice.on_drive else Path(file)
        if not file or not path.is_file():
            raise NotebookError(self.texts("no_recording", file=path))
        return [path]

    @step
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

    @step
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
