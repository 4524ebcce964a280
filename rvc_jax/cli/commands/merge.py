"""`rvc-jax merge`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import start_jax

_First = Annotated[Positional[str], tyro.conf.arg(metavar="A")]
_Second = Annotated[Positional[str], tyro.conf.arg(metavar="B")]
_Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")]
_Ratio = Annotated[
    float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: --ratio)")
]


def merge(
    first: _First,
    second: _Second,
    out: _Files,
    ratio: float = 0.5,
    ratio_prior: _Ratio = None,
    ratio_flow: _Ratio = None,
    ratio_decoder: _Ratio = None,
    ratio_speakers: _Ratio = None,
    index: Literal["none", "a", "b", "both"] = "none",
    as_json: Json = False,
) -> int:
    """Mix two voices of the same kind into a new one.

    Args:
        first: First voice: a run, or a voice's file or imported folder.
        second: Second voice.
        out: Files to write: .pth or .safetensors, or one of each.
        ratio: Weight of the first voice, 0 to 1; the rest is the second's.
        ratio_prior: Weight of the first voice in the prior encoder, which turns content and pitch
            into latents.
        ratio_flow: Weight of the first voice in the coupling flow, which adds the speaker's timbre.
        ratio_decoder: Weight of the first voice in the decoder, which renders the waveform.
        ratio_speakers: Weight of the first voice in the speaker embeddings.
        index: Whose content features to write into an .index beside the .pth.
    """
    start_jax()
    import numpy as np

    from rvc_jax.voices.export import check_output_path, save_voice
    from rvc_jax.voices.merge import merge_voices
    from rvc_jax.voices.open import open_voice

    for path in out:
        check_output_path(path, first, second)
    voices = {"a": open_voice(first), "b": open_voice(second)}
    ratios = {
        "prior": ratio_prior,
        "flow": ratio_flow,
        "decoder": ratio_decoder,
        "speakers": ratio_speakers,
    }
    model = merge_voices(voices["a"], voices["b"], ratio, ratios)
    chosen = {"none": (), "both": ("a", "b")}.get(index, (index,))
    rows = [voices[name].index for name in chosen]
    if any(each is None for each in rows):
        raise UserError(
            f"--index {index} is not possible: a voice has no content features; use --index none"
        )
    if rows:
        index_rows = np.concatenate([each for each in rows if each is not None])
        model = dataclasses.replace(model, index=index_rows)
    written = [file for path in out for file in save_voice(path, model)]
    print_result({"files": written}, [("written", str(file)) for file in written], as_json)
    return 0
