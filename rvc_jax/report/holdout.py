"""The hold-out in a report: what was said, and how the voice says it."""

from __future__ import annotations

from rvc_jax.data.dataset import VoiceDataset
from rvc_jax.report.page import Clip
from rvc_jax.runs import RunFolder
from rvc_jax.train.evaluation import Evaluator
from rvc_jax.train.step import build_networks


def holdout_clips(run: RunFolder, data: VoiceDataset) -> list[Clip]:
    """The first slice of the hold-out, and the best voice's rendering of it; nothing without a hold-out."""
    if not len(data.holdout):
        return []
    _, parameters = run.load_generator("best")
    rendered = Evaluator(build_networks(run.preset, steps_per_epoch=1), data.holdout)(parameters).wave
    rate = run.preset.audio.sample_rate
    return [
        Clip(
            "The voice itself (target)",
            "A slice that the training never saw: what the voice should sound like.",
            data.holdout.wave[0][: len(rendered)],
            rate,
        ),
        Clip(
            "The same slice from the model",
            "Made from content and pitch alone. The closer to the picture above, the better the voice was learnt.",
            rendered,
            rate,
        ),
    ]
