"""The notebook's first step, which starts the studio: the object that all cells after it use."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from rvc_jax.config import Rate
from rvc_jax.errors import UserError
from rvc_jax.notebook import colab, runtime
from rvc_jax.notebook.page import show_text
from rvc_jax.notebook.program import NotebookError, Program
from rvc_jax.notebook.speech import SpeechSteps
from rvc_jax.notebook.training import TrainingSteps
from rvc_jax.notebook.translations import LANGUAGES, Translations
from rvc_jax.version import __version__


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


class Studio(SpeechSteps, TrainingSteps):
    """What the cells after the first one call, one method each.

    All can be run again: each continues what is there. Errors of the user are `NotebookError`s of
    one line.
    """
