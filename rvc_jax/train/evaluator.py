"""What the voice sounds like on speech it has not been trained on: the hold-out is rendered and
measured."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.data.dataset import VoiceDataset, Windows
from rvc_jax.errors import UserError
from rvc_jax.features.f0 import pitch_extractor
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.metrics.pitch import pitch_errors
from rvc_jax.metrics.speaker import INSTALL_HINT, SpeakerEncoder
from rvc_jax.metrics.stft import stft_distance
from rvc_jax.models.layers import sequence_mask
from rvc_jax.models.parameters import Parameters
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train.loader import Batch, gather
from rvc_jax.train.step import Networks, build_networks

EVALUATION_BATCH = 8
SCORED_WINDOWS = 8
"""Windows, spread over the hold-out, whose pitch and speaker are measured: up to 26 s."""


@dataclasses.dataclass(frozen=True)
class HoldoutScore:
    """Figures of a voice by the names in `metrics.holdout.METRIC_NAMES`, and the hold-out's first window as
    rendered."""

    figures: dict[str, float]
    """A figure that cannot be had is left out."""
    wave: np.ndarray
    """The first window's speech in the voice [samples]."""

    @property
    def mel(self) -> float:
        """Mean absolute difference of log-mels over the hold-out's frames."""
        return self.figures["mel"]


class Evaluator:
    """Renders the hold-out as a conversion would, from content and pitch alone without noise, in
    one fixed shape."""

    def __init__(self, networks: Networks, holdout: Windows):
        self._networks = networks
        self._holdout = holdout
        self._score = jax.jit(self._score_batch, compiler_options=networks.compiler_options)
        self._heard = np.unique(
            np.linspace(0, len(holdout) - 1, SCORED_WINDOWS).round().astype(int)
        )
        self._ear = PitchAndSpeaker(
            holdout.samples(self._heard),
            holdout.f0[self._heard],
            holdout.lengths[self._heard],
            networks.preset.audio.sample_rate,
        )

    @property
    def has_similarity(self) -> bool:
        """Whether the model for the speaker similarity is on this machine."""
        return self._ear.has_speaker

    def __call__(self, parameters: Parameters) -> HoldoutScore:
        """parameters: the synthesizer's."""
        count = len(self._holdout)
        sums = np.zeros(3)
        heard = {}
        for begin in range(0, count, EVALUATION_BATCH):
            rows = np.arange(begin, begin + EVALUATION_BATCH)
            batch = gather(self._holdout, np.minimum(rows, count - 1))
            # Rows beyond the last window repeat it, and count for nothing.
            lengths = np.where(rows < count, batch.lengths, 0).astype(np.int32)
            batch = dataclasses.replace(batch, lengths=lengths)
            batch_sums, waves = self._score(parameters, batch)
            sums += np.asarray(batch_sums, np.float64)
            heard |= {row: np.asarray(waves[row - begin]) for row in self._heard if row in rows}
        mel, stft, frames = sums
        figures = {"mel": mel / frames, "stft": stft / frames} | self._ear.compare(
            list(heard.values())
        )
        first = heard[0][: int(self._holdout.lengths[0]) * self._networks.preset.audio.hop]
        return HoldoutScore({name: float(value) for name, value in figures.items()}, first)

    def _score_batch(self, parameters: Parameters, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Sums over the valid frames [3]: log-mel error, STFT distance, 1; and the waves [batch,
        samples]."""
        audio = self._networks.preset.audio
        batch = batch.to_float()
        content = jnp.repeat(batch.content, 2, axis=1).astype(self._networks.dtype)
        wave = self._networks.synthesizer(
            parameters,
            "infer",
            content,
            batch.lengths,
            coarse_pitch(batch.f0),
            batch.f0,
            batch.speaker,
        )
        # The target's spectrograms would take more memory than they take time.
        mels = [log_mel(spectrogram(x, audio), audio) for x in (wave, batch.wave)]
        mask = sequence_mask(batch.lengths, content.shape[1])
        error = jnp.sum(jnp.abs(mels[0] - mels[1]).mean(-1, keepdims=True) * mask)
        stft = jnp.sum(
            stft_distance(wave, batch.wave, batch.lengths * audio.hop) * batch.lengths
        )
        return jnp.stack([error, stft, jnp.sum(mask)]), wave


class PitchAndSpeaker:
    """Pitch and speaker of a few windows, compared with those of the real voice by the same
    methods."""

    def __init__(self, target: np.ndarray, f0: np.ndarray, lengths: np.ndarray, rate: int):
        """target [windows, samples] and its f0 [windows, frames] in the dataset; `lengths` frames
        are not padding.

        Where the two methods differ by more than half an octave, one of them is wrong: such a frame
        would outweigh a hundred others, and is left out.
        """
        self._lengths = lengths
        self._rate = rate
        self._pitch = pitch_extractor("swift")
        self._speaker = SpeakerEncoder.find()
        audio = self._at_feature_rate(target)
        self._target_f0 = self._pitch(audio, lengths * FEATURE_HOP)
        voiced = (f0 > 0) & (self._target_f0 > 0)
        octaves = np.log2(np.where(voiced, f0, 1.0)) - np.log2(
            np.where(voiced, self._target_f0, 1.0)
        )
        self._valid = (np.arange(WINDOW_FRAMES) < lengths[:, None]) & (np.abs(octaves) < 0.5)
        self._target_speaker = self._speaker and self._speaker(audio, lengths * FEATURE_HOP)

    @property
    def has_speaker(self) -> bool:
        return self._speaker is not None

    def compare(self, waves: list[np.ndarray]) -> dict[str, float]:
        """Figures of rendered waves [samples] at the voice's rate; without a model of speakers, no
        similarity."""
        audio = self._at_feature_rate(waves)
        samples = self._lengths * FEATURE_HOP
        figures = pitch_errors(self._pitch(audio, samples), self._target_f0, self._valid)
        if self._speaker is not None:
            figures["similarity"] = np.mean(
                np.sum(self._speaker(audio, samples) * self._target_speaker, axis=1)
            )
        return figures

    def _at_feature_rate(self, waves: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Their valid samples at 16 kHz, and zeros behind: [windows, samples]."""
        audio = np.zeros((len(waves), WINDOW_FRAMES * FEATURE_HOP), np.float32)
        for row, wave, frames in zip(audio, waves, self._lengths, strict=True):
            row[: frames * FEATURE_HOP] = resample(
                wave[: frames * self._rate // 100], self._rate, FEATURE_RATE
            )
        return audio


def evaluate(
    run: RunFolder, dataset: VoiceDataset, which: str = "best"
) -> dict[str, float | int | str]:
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
        raise UserError(
            f"the run is for {fits}, the dataset for {of_dataset[0]} Hz and {of_dataset[1]}"
        )
    _, parameters = run.load_generator(which)
    evaluator = Evaluator(build_networks(run.preset, steps_per_epoch=1), dataset.holdout)
    figures = {
        f"holdout_{name}": value for name, value in evaluator(parameters).figures.items()
    }
    if not evaluator.has_similarity:
        figures["note"] = f"speaker similarity is not measured; {INSTALL_HINT}"
    return {
        "voice": which,
        **figures,
        "holdout_slices": len(dataset.holdout),
        "holdout_seconds": dataset.info.holdout_seconds,
        "same_speech_as_in_training": dataset.info.fingerprint == run.dataset.fingerprint,
    }
