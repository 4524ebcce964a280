"""`rvc-jax extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json, OptionalInt, Which
from rvc_jax.storage.environment import start_jax


def extract(
    checkpoint: Annotated[Positional[str], tyro.conf.arg(metavar="CHECKPOINT")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")],
    step: OptionalInt = None,
    voice: Which = "latest",
    as_json: Json = False,
) -> int:
    """Turn a training checkpoint into a voice: one of a run, or a G_*.pth of RVC or Applio.

    Args:
        checkpoint: Folder of a run, or its gs:// or s3:// URL; or the .pth of a generator.
        out: File to write: .pth or .safetensors.
        step: Step of the checkpoint to take from a run.
        voice: What to take from a run without --step: its newest checkpoint, or its best voice.
    """
    start_jax()
    from rvc_jax.voices.export import check_output_path, save_voice
    from rvc_jax.voices.index import NO_INDEX
    from rvc_jax.voices.names import name_of_file
    from rvc_jax.voices.open import open_voice

    check_output_path(out, checkpoint)
    model = open_voice(checkpoint, voice, step, index=NO_INDEX)
    model = model.with_file_name(name_of_file(checkpoint))
    facts = model.facts
    written = save_voice(out, model.without_posterior())
    rows = [("written", str(out))]
    if facts.get("step"):
        rows.append(("step", str(facts["step"])))
    result = {"files": written, "step": facts.get("step"), "epoch": facts.get("epoch")}
    print_result(result, rows, as_json)
    return 0
