"""The hold-out in a report: what was said, and how the best and the latest voice say it."""

from __future__ import annotations

from typing import Any

from rvc_jax.data.dataset import VoiceDataset
from rvc_jax.errors import UserError
from rvc_jax.report.run_page import Clip
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.step import build_networks

_TRIES = 3


def holdout_clips(run: RunFolder, data: VoiceDataset) -> list[Clip]:
    """The first slice of the hold-out, as the best voice says it, and as the latest does if that is
    another one.

    Nothing without a hold-out; no voice that is not saved yet. The run may be training.
    """
    if not len(data.holdout):
        return []
    evaluator = Evaluator(build_networks(run.preset, steps_per_epoch=1), data.holdout)
    rate = run.preset.audio.sample_rate
    samples = int(data.holdout.lengths[0]) * run.preset.audio.hop
    clips = [
        Clip(
            "The voice itself (target)",
            "A slice that the training never saw: what the voice should sound like.",
            data.holdout.samples(0)[:samples],
            rate,
        )
    ]
    if (best := _newest_voice(run, "best")) is not None:
        line = best_evaluation(run.history()) or {}
        averaged = (
            ", averaged weights"
            if line.get("best/which") == "ema" and line["step"] == best[0]
            else ""
        )
        caption = (
            f"The best voice, of step {best[0]}{averaged}. Made from content and pitch alone. The closer to the "
            "picture above, the better the voice was learnt."
        )
        clips.append(
            Clip("The same slice from the model", caption, evaluator(best[1]).wave, rate)
        )
    latest = _newest_voice(run, "latest")
    if latest is not None and (best is None or best[0] != latest[0] or averaged):
        caption = f"The last saved state of the training, of step {latest[0]}."
        clips.append(
            Clip(
                "The same slice from the latest state", caption, evaluator(latest[1]).wave, rate
            )
        )
    return clips


def _newest_voice(run: RunFolder, which: str) -> tuple[int, Any] | None:
    """Step and parameters of the best or latest voice; None if none is saved.

    A run that trains saves new ones and removes old ones meanwhile: what vanished while it was read
    is read anew.
    """
    folder = run.best if which == "best" else run.checkpoints
    for left in reversed(range(_TRIES)):
        newest = checkpoint.find_newest(folder)
        if newest is None:
            return None
        try:
            parameters = run.load_generator(which)[1]
        except (UserError, OSError):
            if left == 0 or checkpoint.find_newest(folder) == newest:
                raise
            continue
        if checkpoint.find_newest(folder) == newest:
            return int(newest.name), parameters
    return None
