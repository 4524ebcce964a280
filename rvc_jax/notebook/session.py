"""What the notebook's steps share: the opened voice, the texts, the commands, the rate.

It begins with step 2, which opens the voice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.notebook import colab, runtime
from rvc_jax.notebook.page import show_text
from rvc_jax.notebook.program import NotebookError, Program
from rvc_jax.notebook.translations import Translations
from rvc_jax.notebook.workspace import Workspace, is_inside, is_name, recordings

DRIVE = Path("drive")
"""Where the user's Drive is mounted, in the folder for the runtime's own files."""
_MY_DRIVE = "MyDrive"


def step(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a method's UserErrors into NotebookErrors, which are shown as one line."""

    @functools.wraps(method)
    def shown(self: Session, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except NotebookError:
            raise
        except UserError as error:
            raise NotebookError(str(error)) from None

    return shown


class Session:
    """The opened voice of a notebook, and what it takes to work on it."""

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

    @step
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
            colab.mount(colab.content_folder() / DRIVE)
        except Exception as error:  # anything that Colab raises: a refusal, a time limit
            raise NotebookError(self.texts("no_mount", reason=error)) from None
        return colab.content_folder() / DRIVE / _MY_DRIVE

    def _there(self) -> Iterator[str]:
        voice = self.voice
        if voice.speech.is_dir() and (count := len(recordings(voice.speech))):
            yield self.texts("there_speech", count=count)
        if (voice.dataset / "metadata.json").exists():
            yield self.texts("there_dataset")
        if beat := voice.beat:
            yield self.texts("there_run", state=beat.get("state"), step=beat.get("step"))

    def _prepared(self) -> dict[str, Any]:
        """Return the notes on the dataset. Raises NotebookError if there is none."""
        if not (dataset := self.voice.state.get("dataset")) or not self.voice.dataset.is_dir():
            raise NotebookError(self.texts("no_dataset"))
        return dataset
