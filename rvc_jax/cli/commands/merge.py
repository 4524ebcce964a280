"""`rvc-jax merge`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json
from rvc_jax.storage.environment import start_jax

First = Annotated[Positional[str], tyro.conf.arg(metavar="A")]
Second = Annotated[Positional[str], tyro.conf.arg(metavar="B")]
Outs = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")]
Share = Annotated[
    float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: --ratio)")
]


def merge(
    first: First,
    second: Second,
    out: Outs,
    ratio: float = 0.5,
    ratio_prior: Share = None,
    ratio_flow: Share = None,
    ratio_decoder: Share = None,
    ratio_speakers: Share = None,
    index: Literal["none", "a", "b", "both"] = "none",
    as_json: Json = False,
) -> int:
    """Mix two voices of the same kind into a new one.

    Args:
        first: A run, or a voice's file or imported folder.
        second: The other one.
        out: Files to write: .pth or .safetensors, or one of each.
        ratio: Share of the first voice, 0 to 1; the rest is the second's.
        ratio_prior: Its share in the prior encoder, which makes sounds of content and pitch.
        ratio_flow: Its share in the coupling flow, which lends them the speaker's colour.
        ratio_decoder: Its share in the decoder, which makes the wave.
        ratio_speakers: Its share in the table of speakers.
        index: Whose content features go into an .index beside the .pth.
    """
    start_jax()
    import numpy as np

    from rvc_jax.errors import UserError
    from rvc_jax.voices.export import check_output_path, save_voice
    from rvc_jax.voices.merge import merge_voices
    from rvc_jax.voices.open import open_voice

    for path in out:
        check_output_path(path, first, second)
    voices = {"a": open_voice(first), "b": open_voice(second)}
    shares = {
        "prior": ratio_prior,
        "flow": ratio_flow,
        "decoder": ratio_decoder,
        "speakers": ratio_speakers,
    }
    model = merge_voices(voices["a"], voices["b"], ratio, shares)
    wanted = {"none": (), "both": ("a", "b")}.get(index, (index,))
    rows = [voices[each].index for each in wanted]
    if any(each is None for each in rows):
        raise UserError(
            f"--index {index} is not possible: a voice has no content features; use --index none"
        )
    if rows:
        model = dataclasses.replace(model, index=np.concatenate(rows))
    written = [file for path in out for file in save_voice(path, model)]
    print_result({"files": written}, [("written", str(file)) for file in written], as_json)
    return 0
