"""The hold-out in a report: the recording, and how the best and the latest voice render it."""

from __future__ import annotations

from typing import Any

from rvc_jax.data.dataset import HoldoutDataset
from rvc_jax.errors import UserError
from rvc_jax.report.run_page import Clip
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.networks import build_networks

_TRIES = 3


def render_holdout_clips(run: RunFolder, data: HoldoutDataset) -> list[Clip]:
    """Render the first slice of the hold-out with the best voice, and the latest if it differs.

    The run may be training: voices that are not saved yet are left out.

    Returns:
      The recorded slice and what was rendered; nothing without a hold-out.
    """
    if not len(data.holdout):
        return []
    evaluator = Evaluator(build_networks(run.preset, steps_per_epoch=1), data.holdout)
    rate = run.preset.audio.sample_rate
    samples = int(data.holdout.lengths[0]) * run.preset.audio.hop
    clips = [
        Clip(
            "The voice itself (target)",
            "A slice that was kept out of training: what the voice should sound like.",
            data.holdout.samples(0)[:samples],
            rate,
        )
    ]
    best = load_newest_voice(run, "best")
    averaged = ""
    if best is not None:
        step, parameters = best
        line = best_evaluation(run.history()) or {}
        if line.get("best/which") == "ema" and line["step"] == step:
            averaged = ", averaged weights"
        caption = (
            f"The best voice, of step {step}{averaged}, rendered from content and pitch alone. "
            "The closer to the picture above, the better."
        )
        wave = evaluator(parameters).wave
        clips.append(Clip("The same slice from the model", caption, wave, rate))
    latest = load_newest_voice(run, "latest")
    # Averaged weights differ from the raw ones of the same step.
    if latest is not None and (best is None or best[0] != latest[0] or averaged):
        step, parameters = latest
        caption = f"The last saved state of the training, of step {step}."
        wave = evaluator(parameters).wave
        clips.append(Clip("The same slice from the latest state", caption, wave, rate))
    return clips


def load_newest_voice(run: RunFolder, which: str) -> tuple[int, Any] | None:
    """Return step and parameters of the `best` or the `latest` voice; None if none is saved.

    A run that is training saves new checkpoints and removes old ones. One that disappears while it
    is read is read again from its successor.

    Raises:
      UserError: the newest checkpoint is damaged.
    """
    folder = run.best if which == "best" else run.checkpoints
    for tries_left in reversed(range(_TRIES)):
        newest = checkpoint.find_newest(folder)
        if newest is None:
            return None
        try:
            parameters = run.load_generator(which)[1]
        except (UserError, OSError):
            if tries_left == 0 or checkpoint.find_newest(folder) == newest:
                raise
            continue
        if checkpoint.find_newest(folder) == newest:
            return int(newest.name), parameters
    return None
