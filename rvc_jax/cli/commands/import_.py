"""`rvc-jax import`: voices of the RVC world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, OptionalPlace, Preset
from rvc_jax.formatting import format_bytes

_File = Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
_Text = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]


def import_(
    file: _File,
    out: Path,
    name: _Text = None,
    index: OptionalPlace = None,
    discriminator: OptionalPlace = None,
    preset: Preset = None,
    content_encoder: _Text = None,
    as_json: Json = False,
) -> int:
    """Make a folder of a voice from elsewhere, to convert with or to train on.

    Args:
        file: Voice of any RVC tool: .pth, .zip with one, G_*.pth of a training, or a folder with
            one file.
        out: Folder to make.
        name: Name of the voice; the file's own if not given.
        index: Retrieval index of the voice (.index or .npy); the one beside the file or in the
            archive if not given, and "none" takes none.
        discriminator: D_*.pth that was saved with a G_*.pth, to train on with it.
        preset: Sizes of a checkpoint that does not tell which it has; only asked for where they are
            not clear.
        content_encoder: That the voice was trained with, instead of what its file says: a name of
            those that `rvc-jax prepare --help` lists, a folder or file of a HuBERT model, or
            OWNER/NAME on the Hugging Face hub.
    """
    from rvc_jax.errors import UserError
    from rvc_jax.storage.files import file_sha256
    from rvc_jax.voices.formats import native, pth_reader
    from rvc_jax.voices.open import open_voice

    native.check_vacant(out)
    model = open_voice(file, index=index, preset=preset, content_encoder=content_encoder)
    if model.run is not None:
        raise UserError(f"{file} is a run, which needs no import: convert, train or export it")
    if name:
        model = model.with_facts(name=name)
    critic = pth_reader.read_discriminator(discriminator, model) if discriminator else None
    origin: dict[str, Any] = {"file": file.name, "index": model.index_name}
    if file.is_file():
        origin["sha256"] = file_sha256(file)
    native.write_folder(out, model, critic, origin)
    rows = 0 if model.index is None else len(model.index)
    result = {
        "out": out,
        **model.summary(),
        "index_rows": rows,
        "discriminator": critic is not None,
    }
    print_result(result, _rows(result, model.index_name), as_json)
    return 0


import_.__name__ = "import"


def _rows(result: dict[str, Any], index_name: str | None) -> list[tuple[str, str]]:
    from rvc_jax.voices.formats.native import DISCRIMINATOR, MODEL

    out = result["out"]
    speakers = result["speakers"]
    pitch = "with" if result["pitch"] else "without"
    rows = [
        ("written", f"{out} ({format_bytes(4 * result['parameters'])} of weights)"),
        ("found", f"{result['kind']}, {result['name']}"),
        ("format", f"{result['version']} at {result['sample_rate']} Hz, {pitch} pitch"),
        (
            "speakers",
            f"{speakers}, without names" if isinstance(speakers, int) else ", ".join(speakers),
        ),
        ("content encoder", result["content_encoder"]),
        ("epochs", "not told" if result["epoch"] is None else str(result["epoch"])),
        (
            "index",
            f"{result['index_rows']} rows of {index_name}" if result["index_rows"] else "none",
        ),
        ("convert", f"rvc-jax convert {out} SOURCE OUT"),
    ]
    if result["can_be_trained_on"] and result["discriminator"]:
        pair = f"--pretrained-generator {out}/{MODEL} --pretrained-discriminator {out}/{DISCRIMINATOR}"
        rows.append(("train on", f"rvc-jax train DATASET --run RUN {pair}"))
    elif result["can_be_trained_on"]:
        rows.append(
            (
                "train on",
                "also needs the D_*.pth of the same training: import again with --discriminator",
            )
        )
    return rows
