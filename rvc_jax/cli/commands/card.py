"""`rvc-jax card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, Run, Which
from rvc_jax.storage.environment import start_jax

OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


def card(
    run: Run,
    out: OptionalPath = None,
    voice: Which = "best",
    license_note: str = "",
    as_json: Json = False,
) -> int:
    """Print a voice's model card, in Markdown: what it was made of, its hold-out scores, how to use
    it, its rights.

    Args:
        run: Folder of the run, also at gs:// or s3://; or a voice's file or imported folder.
        out: File to write instead of printing it.
        voice: The best voice by the hold-out, or the latest.
        license_note: What the rights to the recordings are.
    """
    start_jax()
    from rvc_jax.errors import UserError
    from rvc_jax.storage.files import atomic_write
    from rvc_jax.voices.model_card import render_card
    from rvc_jax.voices.names import name_of_file
    from rvc_jax.voices.open import open_voice

    model = open_voice(run, voice).with_file_name(name_of_file(run))
    text = render_card(model, license_note=license_note)
    if out is not None:
        if out.is_dir() or not out.absolute().parent.is_dir():
            raise UserError(f"{out} cannot be written: name a file in a folder that exists")
        with atomic_write(out) as file:
            file.write(text.encode())
    if as_json:
        print_result({"out": out, "card": text}, [], as_json)
    elif out is None:
        print(text, end="")
    else:
        print_result(None, [("card", str(out))], as_json)
    return 0
