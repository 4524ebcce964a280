"""`rvc-jax card`."""

from __future__ import annotations

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import (
    Json,
    OptionalPath,
    RunArgument,
    Text,
    Which,
    check_output_file,
)
from rvc_jax.cli.terminal import print_lines
from rvc_jax.storage.environment import start_jax


def card(
    run: RunArgument,
    out: OptionalPath = None,
    voice: Which = "best",
    license_note: Text = "",
    as_json: Json = False,
) -> int:
    """Print the model card of a voice in Markdown: its origin, hold-out scores, uses and rights.

    Args:
        run: Folder of a run, or its gs:// or s3:// URL; or a voice's file or imported folder.
        out: File to write, instead of printing the card.
        voice: Which voice of the run: the best by the hold-out, or the latest.
        license_note: The rights to the recordings, in your own words.
    """
    start_jax()
    from rvc_jax.storage.files import atomic_write
    from rvc_jax.voices.model_card import render_card
    from rvc_jax.voices.names import name_of_file
    from rvc_jax.voices.open import open_voice

    model = open_voice(run, voice).with_file_name(name_of_file(run))
    text = render_card(model, license_note=license_note)
    if out is not None:
        check_output_file(out)
        with atomic_write(out) as file:
            file.write(text.encode())
    if as_json:
        print_result({"out": out, "card": text}, [], as_json)
    elif out is None:
        print_lines(text)
    else:
        print_result(None, [("card", str(out))], as_json)
    return 0
