"""`rvc-jax export`."""

from __future__ import annotations

from typing import Annotated

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, OptionalPlace, Run, Which
from rvc_jax.config import EXPORT_FORMATS, ExportConfig
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import start_jax

_CHOICES = (*EXPORT_FORMATS, "all")
Formats = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="format",
        metavar=f"{{{','.join(_CHOICES)}}} ...",
        help_behavior_hint="(default: what works)",
    ),
]


def export(
    run: Run,
    formats: Formats = (),
    out: OptionalPlace = None,
    name: str = "",
    voice: Which = "best",
    author: str = "",
    license_note: str = "",
    as_json: Json = False,
) -> int:
    """Write a voice for other tools: RVC, Applio, w-okada's voice changer and what reads ONNX or
    safetensors.

    Every file is read back, compared and heard before it is called written.

    Args:
        run: Folder of the run, also at gs:// or s3://; or a voice's .pth or imported folder.
        formats: rvc: the .pth and its .index; zip: both and the model card, as voices are shared;
            onnx: for w-okada's voice changer; onnx-rvc: with the inputs of RVC's own export;
            safetensors; checkpoints: G_ and D_ files that RVC and Applio train on from; all: all
            that this voice can be had in.
        out: Folder for the files, also at gs:// or s3://; `voice` in the run if not given.
        name: Of the voice and its files; the run's if not given.
        voice: The best voice by the hold-out, or the latest.
        author: Who made the voice, to be told in its files.
        license_note: What the rights to the recordings are, for the model card.
    """
    from rvc_jax.errors import UserError, sanitize

    for each in formats:
        if each not in _CHOICES:
            raise UserError(
                f"--format {sanitize(each)} is unknown: choose from {', '.join(_CHOICES)}"
            )
    start_jax()
    from rvc_jax.voices.export import export as run_export

    config = ExportConfig(formats, name, voice, author, license_note)
    with Display() as display:
        written = run_export(run, out, config, display)
    rows = [("folder", str(written.out))]
    rows += [
        (file.name, f"{format_bytes(file.bytes)}, SHA-256 {file.sha256}")
        for file in written.files
    ]
    rows += [
        (f"checked {form}", ", ".join(_figure(*each) for each in figures.items()))
        for form, figures in written.checks.items()
        if figures
    ]
    rows += [("note", note) for note in written.notes]
    files = [file._asdict() for file in written.files]
    result = {
        "out": written.out,
        "name": written.name,
        "files": files,
        "checks": written.checks,
    }
    print_result(result | {"notes": written.notes}, rows, as_json)
    return 0


def _figure(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"{name.replace('_', ' ')} {' '.join(map(str, value))}"
    return (
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
    )
