"""`rvc-jax export`."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import (
    Encoder,
    Json,
    Member,
    OptionalPlace,
    RunArgument,
    Text,
    Which,
)
from rvc_jax.config import EXPORT_FORMATS, ExportConfig
from rvc_jax.errors import UserError, sanitize
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import start_jax

_FORMATS = (*EXPORT_FORMATS, "all")
_Formats = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="format",
        metavar=f"{{{','.join(_FORMATS)}}} ...",
        help_behavior_hint="(default: all that work for this voice)",
    ),
]


def export(
    run: RunArgument,
    formats: _Formats = (),
    out: OptionalPlace = None,
    name: Text = "",
    voice: Which = "best",
    author: Text = "",
    license_note: Text = "",
    index: OptionalPlace = None,
    content_encoder: Encoder = None,
    member: Member = None,
    as_json: Json = False,
) -> int:
    """Write a voice for other programs: RVC, Applio, w-okada's voice changer, and all that read
    ONNX or safetensors.

    Each file is verified: it is read back, compared with the voice, and its sound is measured.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL; or a voice's .pth or imported folder.
        formats: rvc: .pth and .index; zip: both with the model card, as voices are shared; onnx:
            for w-okada's voice changer; onnx-rvc: with the inputs of RVC's own export; safetensors;
            checkpoints: G_ and D_ files to continue training in RVC and Applio; all: every format
            that this voice supports.
        out: Folder for the files, or its gs:// or s3:// URL; by default `voice` in the run.
        name: Name of the voice and its files; by default the run's.
        voice: Which voice of the run: the best by the hold-out, or the latest.
        author: Author of the voice, stored in its files.
        license_note: The rights to the recordings, for the model card.
        index: Retrieval index (.index or .npy) instead of the voice's own; "none" for no index.
    """
    for each in formats:
        if each not in _FORMATS:
            raise UserError(
                f"--format {sanitize(each)} is unknown: choose from {', '.join(_FORMATS)}"
            )
    start_jax()
    from rvc_jax.voices.export import VoicePlace
    from rvc_jax.voices.export import export as run_export

    chosen: Any = formats  # checked above
    config = ExportConfig(chosen, name, voice, author, license_note)
    source = VoicePlace(run, index, content_encoder, member)
    with Display() as display:
        written = run_export(source, out, config, display)
    rows = [("folder", str(written.out))]
    for file in written.files:
        rows.append((file.name, f"{format_bytes(file.bytes)}, SHA-256 {file.sha256}"))
    for form, checks in written.checks.items():
        if checks:
            text = ", ".join(_format_check(*check) for check in checks.items())
            rows.append((f"checked {form}", text))
    rows += [("note", note) for note in written.notes]
    result = {
        "out": written.out,
        "name": written.name,
        "files": [file._asdict() for file in written.files],
        "checks": written.checks,
        "notes": written.notes,
    }
    print_result(result, rows, as_json)
    return 0


def _format_check(name: str, value: object) -> str:
    label = name.replace("_", " ")
    if isinstance(value, list):
        return f"{label} {' '.join(map(str, value))}"
    return f"{label} {value:.3g}" if isinstance(value, float) else f"{label} {value}"
