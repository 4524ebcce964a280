"""Step 3 of the notebook: collect the speech, make a dataset of it, and show its quality."""

from __future__ import annotations

from pathlib import Path

from rvc_jax.notebook import colab
from rvc_jax.notebook.page import frame, show_text
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.progress import Progress
from rvc_jax.notebook.session import DRIVE, Session, step
from rvc_jax.notebook.workspace import recordings


class SpeechSteps(Session):
    """The cells of step 3."""

    @step
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
                colab.content_folder() / DRIVE / folder.strip()
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

    @step
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

    @step
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
