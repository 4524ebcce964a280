"""`rvc-jax import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Encoder, Json, Member, OptionalPlace, OptionalText, Preset
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import start_jax

_File = Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]


def import_(
    file: _File,
    out: Path,
    name: OptionalText = None,
    index: OptionalPlace = None,
    discriminator: OptionalPlace = None,
    preset: Preset = None,
    content_encoder: Encoder = None,
    member: Member = None,
    as_json: Json = False,
) -> int:
    """Import a voice of another program into a folder, to convert with or to continue training.

    Args:
        file: Voice file of any RVC program: .pth, a .zip containing one, G_*.pth of a training, or
            a folder with one such file.
        out: Folder to make.
        name: Name of the voice; by default the one in its file.
        index: Retrieval index of the voice (.index or .npy). By default the one beside the file or
            in the archive; "none" for no index.
        discriminator: D_*.pth saved with a G_*.pth, to continue training with it.
        preset: Preset of a checkpoint whose sizes are ambiguous; needed only if the error message
            asks for it.
    """
    from rvc_jax.storage.files import file_sha256
    from rvc_jax.voices.encoders import is_known, pin_encoder
    from rvc_jax.voices.formats import native, pth_reader
    from rvc_jax.voices.open import open_voice

    native.check_vacant(out)
    model = open_voice(
        file, index=index, preset=preset, content_encoder=content_encoder, member=member
    )
    if model.run is not None:
        raise UserError(f"{file} is a run, which needs no import: convert, train or export it")
    if not is_known(model.content_encoder):
        start_jax()
        model = pin_encoder(model)
    if name:
        model = model.with_facts(name=name)
    weights = pth_reader.read_discriminator(discriminator, model) if discriminator else None
    origin: dict[str, Any] = {"file": file.name, "index": model.index_name}
    if file.is_file():
        origin["sha256"] = file_sha256(file)
    native.write_folder(out, model, weights, origin)
    result = {
        "out": out,
        **model.summary(),
        "index_rows": 0 if model.index is None else len(model.index),
        "discriminator": weights is not None,
        "notes": list(model.notes),
    }
    print_result(result, _rows(result, model.index_name), as_json)
    return 0


def _rows(result: dict[str, Any], index_name: str | None) -> list[tuple[str, str]]:
    from rvc_jax.voices.formats.native import DISCRIMINATOR, MODEL

    out = result["out"]
    pitch = "with" if result["pitch"] else "without"
    speakers = result["speakers"]
    names = f"{speakers}, without names" if isinstance(speakers, int) else ", ".join(speakers)
    index = f"{result['index_rows']} rows of {index_name}" if result["index_rows"] else "none"
    rows = [
        ("written", f"{out} ({format_bytes(4 * result['parameters'])} of weights)"),
        ("found", f"{result['kind']}, {result['name']}"),
        ("format", f"{result['version']} at {result['sample_rate']} Hz, {pitch} pitch"),
        ("speakers", names),
        ("content encoder", result["content_encoder"]),
        ("epochs", "unknown" if result["epoch"] is None else str(result["epoch"])),
        ("index", index),
        ("convert", f"rvc-jax convert {out} SOURCE OUT"),
    ]
    if result["can_be_trained_on"] and result["discriminator"]:
        pretrained = (
            f"--pretrained-generator {out}/{MODEL} "
            f"--pretrained-discriminator {out}/{DISCRIMINATOR}"
        )
        rows.append(("train on", f"rvc-jax train DATASET --run RUN {pretrained}"))
    elif result["can_be_trained_on"]:
        advice = (
            "also needs the D_*.pth of the same training: import again with --discriminator"
        )
        rows.append(("train on", advice))
    return rows + [("note", note) for note in result["notes"]]
