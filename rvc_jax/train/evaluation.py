"""What the voice sounds like on speech it has not been trained on: the error of the log-mel of the hold-out."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.data.dataset import VoiceDataset, Windows
from rvc_jax.errors import UserError
from rvc_jax.features.pitch import coarse_pitch
from rvc_jax.models.layers import sequence_mask
from rvc_jax.models.parameters import Parameters
from rvc_jax.runs import RunFolder
from rvc_jax.train.batches import gather
from rvc_jax.train.step import Batch, Networks, build_networks

EVALUATION_BATCH = 8


@dataclasses.dataclass(frozen=True)
class HoldoutScore:
    """Mean absolute difference of log-mels over the hold-out's frames, and its first window as rendered."""

    mel: float
    wave: np.ndarray
    """The first window's speech in the voice [samples]."""


class Evaluator:
    """Renders the hold-out as a conversion would, from content and pitch alone without noise, in one fixed shape."""

    def __init__(self, networks: Networks, holdout: Windows):
        self._networks, self._holdout = networks, holdout
        self._score = jax.jit(self._score_batch)

    def __call__(self, parameters: Parameters) -> HoldoutScore:
        """parameters: the synthesizer's."""
        count = len(self._holdout.lengths)
        error, frames, first = 0.0, 0, None
        for begin in range(0, count, EVALUATION_BATCH):
            rows = np.arange(begin, begin + EVALUATION_BATCH)
            batch = gather(self._holdout, np.minimum(rows, count - 1))
            batch["lengths"] = np.where(rows < count, batch["lengths"], 0).astype(np.int32)
            batch_error, batch_frames, wave = self._score(parameters, batch)
            error, frames = error + float(batch_error), frames + int(batch_frames)
            first = np.asarray(wave[0]) if first is None else first
        audio = self._networks.preset.audio
        return HoldoutScore(error / frames, first[: int(self._holdout.lengths[0]) * audio.hop])

    def _score_batch(self, parameters: Parameters, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        audio = self._networks.preset.audio
        content = jnp.repeat(batch["content"], 2, axis=1).astype(self._networks.dtype)
        wave = self._networks.synthesizer(
            parameters, "infer", content, batch["lengths"], coarse_pitch(batch["f0"]), batch["f0"], batch["speaker"]
        )
        mels = [log_mel(spectrogram(x, audio), audio) for x in (wave, batch["wave"])]
        mask = sequence_mask(batch["lengths"], content.shape[1])
        error = jnp.sum(jnp.abs(mels[0] - mels[1]).mean(-1, keepdims=True) * mask)
        return error, jnp.sum(mask), wave


def evaluate(run: RunFolder, dataset: VoiceDataset, which: str = "best") -> dict[str, float | int | str]:
    """Figures of a run's `best` or `latest` voice on the hold-out of a dataset.

    Raises:
      UserError: if the dataset has no hold-out, or was not prepared as the run's own was.
    """
    if not len(dataset.holdout):
        raise UserError("the dataset has no hold-out to measure on")
    of_run = (run.preset.audio.sample_rate, run.dataset.content_encoder)
    of_dataset = (dataset.info.sample_rate, dataset.info.content_encoder)
    if of_run != of_dataset:
        fits = " Hz and ".join(map(str, of_run))
        raise UserError(f"the run is for {fits}, the dataset for {of_dataset[0]} Hz and {of_dataset[1]}")
    _, parameters = run.load_generator(which)
    score = Evaluator(build_networks(run.preset, steps_per_epoch=1), dataset.holdout)(parameters)
    return {
        "voice": which,
        "holdout_mel": score.mel,
        "holdout_slices": len(dataset.holdout),
        "holdout_seconds": dataset.info.holdout_seconds,
        "same_speech_as_in_training": dataset.info.fingerprint == run.dataset.fingerprint,
    }
