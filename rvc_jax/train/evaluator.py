"""Measures a voice on the hold-out: renders speech that it was not trained on, and compares it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, WINDOW_FRAMES
from rvc_jax.data.dataset import HoldoutDataset
from rvc_jax.data.windows import Windows
from rvc_jax.errors import UserError
from rvc_jax.features.f0 import load_pitch_extractor
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.metrics.pitch import pitch_errors
from rvc_jax.metrics.speaker import INSTALL_HINT, SpeakerEncoder
from rvc_jax.metrics.stft import stft_distance
from rvc_jax.models.layers import sequence_mask
from rvc_jax.models.parameters import Parameters
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train.loader import Batch, gather
from rvc_jax.train.networks import Networks, build_networks

EVALUATION_BATCH = 8
SCORED_WINDOWS = 8
"""Windows, spread over the hold-out, whose pitch and speaker are measured: up to 26 s."""
_MAX_OCTAVES_APART = 0.5


@dataclasses.dataclass(frozen=True)
class HoldoutScore:
    """Metrics of a voice, and the first window of the hold-out as it renders it."""

    metrics: dict[str, float]
    """By the names in `metrics.holdout.METRIC_NAMES`; those that can't be measured are missing."""
    wave: np.ndarray
    """The first window in the voice [samples]."""

    @property
    def mel(self) -> float:
        """Mean absolute difference of log-mels over the hold-out's frames."""
        return self.metrics["mel"]


class Evaluator:
    """Renders the hold-out as a conversion would, from content and pitch without noise.

    All batches have one shape: it is compiled once.
    """

    def __init__(self, networks: Networks, holdout: Windows):
        """Measure pitch and speaker of the hold-out's own speech.

        Args:
            networks: The run's networks.
            holdout: Windows of the hold-out, at least one.
        """
        self._networks = networks
        self._holdout = holdout
        self._score = jax.jit(self._score_batch, compiler_options=networks.compiler_options)
        spread = np.linspace(0, len(holdout) - 1, SCORED_WINDOWS)
        self._scored_rows = np.unique(spread.round().astype(int))
        self._pitch_and_speaker = PitchAndSpeaker(
            holdout.samples(self._scored_rows),
            holdout.f0[self._scored_rows],
            holdout.lengths[self._scored_rows],
            networks.preset.audio.sample_rate,
        )

    @property
    def has_similarity(self) -> bool:
        """Whether the model for the speaker similarity is on this machine."""
        return self._pitch_and_speaker.has_speaker

    def __call__(self, parameters: Parameters) -> HoldoutScore:
        """Measure a voice.

        Args:
            parameters: The synthesizer's parameters.
        """
        count = len(self._holdout)
        sums = np.zeros(3)
        scored: dict[int, np.ndarray] = {}
        for begin in range(0, count, EVALUATION_BATCH):
            rows = np.arange(begin, begin + EVALUATION_BATCH)
            # The last batch is filled up with windows of length 0, which count for nothing.
            batch = gather(self._holdout, np.minimum(rows, count - 1))
            lengths = np.where(rows < count, batch.lengths, 0).astype(np.int32)
            batch = dataclasses.replace(batch, lengths=lengths)
            batch_sums, waves = self._score(parameters, batch)
            sums += np.asarray(batch_sums, np.float64)
            for row in self._scored_rows:
                if row in rows:
                    scored[row] = np.asarray(waves[row - begin])
        mel, stft, frames = sums
        metrics = {"mel": mel / frames, "stft": stft / frames}
        metrics |= self._pitch_and_speaker.compare(list(scored.values()))
        first_samples = int(self._holdout.lengths[0]) * self._networks.preset.audio.hop
        return HoldoutScore(
            {name: float(value) for name, value in metrics.items()},
            scored[0][:first_samples],
        )

    def _score_batch(self, parameters: Parameters, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return sums over the valid frames [3] and the rendered waves [batch, samples].

        The sums are those of the log-mel error, of the STFT distance, and of 1.
        """
        audio = self._networks.preset.audio
        batch = batch.to_float()
        target = jnp.asarray(batch.wave)
        lengths = jnp.asarray(batch.lengths)
        content = jnp.repeat(batch.content, 2, axis=1).astype(self._networks.dtype)
        wave = self._networks.synthesizer(
            parameters,
            "infer",
            content,
            lengths,
            coarse_pitch(batch.f0),
            batch.f0,
            batch.speaker,
        )
        # The target's spectrograms are computed each time: keeping them would take more memory than
        # it saves time.
        rendered_mel = log_mel(spectrogram(wave, audio), audio)
        target_mel = log_mel(spectrogram(target, audio), audio)
        mask = sequence_mask(lengths, content.shape[1])
        error = jnp.sum(jnp.abs(rendered_mel - target_mel).mean(-1, keepdims=True) * mask)
        distance = stft_distance(wave, target, lengths * audio.hop)
        stft = jnp.sum(distance * lengths)
        return jnp.stack([error, stft, jnp.sum(mask)]), wave


class PitchAndSpeaker:
    """Compares pitch and speaker of rendered windows with those of the target speech.

    Both are measured with the same methods.
    """

    def __init__(self, target: np.ndarray, f0: np.ndarray, lengths: np.ndarray, rate: int):
        """Measure the target.

        Where the dataset's pitch and the one measured here differ by more than half an octave, one
        of them is wrong: such frames are left out.

        Args:
            target: Speech [windows, samples].
            f0: Its pitch in the dataset in Hz [windows, frames].
            lengths: Frames of each window that are not padding [windows].
            rate: Sample rate of the target in Hz.
        """
        self._lengths = lengths
        self._rate = rate
        self._extract_pitch = load_pitch_extractor("swift")
        self._embed_speaker = SpeakerEncoder.find()
        audio = self.resample_windows(target)
        samples = lengths * FEATURE_HOP
        self._target_f0 = self._extract_pitch(audio, samples)
        voiced = (f0 > 0) & (self._target_f0 > 0)
        octaves = np.log2(np.where(voiced, f0, 1.0))
        octaves -= np.log2(np.where(voiced, self._target_f0, 1.0))
        is_inside = np.arange(WINDOW_FRAMES) < lengths[:, None]
        self.valid = is_inside & (np.abs(octaves) < _MAX_OCTAVES_APART)
        """Frames that are compared [windows, frames]."""
        self._target_speaker = None
        if self._embed_speaker is not None:
            self._target_speaker = self._embed_speaker(audio, samples)

    @property
    def has_speaker(self) -> bool:
        """Whether the model of speakers is on this machine."""
        return self._embed_speaker is not None

    def compare(self, waves: list[np.ndarray]) -> dict[str, float]:
        """Return the metrics of rendered windows.

        Args:
            waves: The windows [samples] at the target's rate.

        Returns:
            Those of `metrics.pitch.pitch_errors`, and `similarity` if the model of speakers is
            here.
        """
        audio = self.resample_windows(waves)
        samples = self._lengths * FEATURE_HOP
        metrics = pitch_errors(self._extract_pitch(audio, samples), self._target_f0, self.valid)
        if self._embed_speaker is not None:
            embeddings = self._embed_speaker(audio, samples)
            cosines = np.sum(embeddings * self._target_speaker, axis=1)
            metrics["similarity"] = float(np.mean(cosines))
        return metrics

    def resample_windows(self, waves: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Return the valid samples at 16 kHz, and zeros behind them [windows, samples]."""
        audio = np.zeros((len(waves), WINDOW_FRAMES * FEATURE_HOP), np.float32)
        for row, wave, frames in zip(audio, waves, self._lengths, strict=True):
            valid = wave[: frames * self._rate // 100]
            row[: frames * FEATURE_HOP] = resample(valid, self._rate, FEATURE_RATE)
        return audio


def evaluate(
    run: RunFolder, dataset: HoldoutDataset, which: str = "best"
) -> dict[str, float | int | str]:
    """Measure a run's voice on the hold-out of a dataset.

    Args:
        run: The run.
        dataset: Its own dataset, or another one that was prepared in the same way.
        which: "best" or "latest".

    Returns:
        `holdout_NAME` for every metric, and what it was measured on.

    Raises:
        UserError: The dataset has no hold-out, or was prepared in another way than the run's own.
    """
    if not len(dataset.holdout):
        raise UserError("the dataset has no hold-out to measure on")
    of_run = (run.preset.audio.sample_rate, run.dataset.content_encoder)
    of_dataset = (dataset.info.sample_rate, dataset.info.content_encoder)
    # An encoder that the user brought may be in another folder now.
    is_same = run.dataset.content_fingerprint == dataset.info.content_fingerprint
    if of_run != of_dataset and not (is_same and of_run[0] == of_dataset[0]):
        raise UserError(
            f"the run is for {of_run[0]} Hz and {of_run[1]}, the dataset for {of_dataset[0]} Hz "
            f"and {of_dataset[1]}"
        )
    _, parameters = run.load_generator(which)
    evaluator = Evaluator(build_networks(run.preset, steps_per_epoch=1), dataset.holdout)
    metrics = evaluator(parameters).metrics
    measured: dict[str, float | int | str] = {
        f"holdout_{name}": value for name, value in metrics.items()
    }
    if not evaluator.has_similarity:
        measured["note"] = f"speaker similarity is not measured; {INSTALL_HINT}"
    return {
        "voice": which,
        **measured,
        "holdout_slices": len(dataset.holdout),
        "holdout_seconds": dataset.info.holdout_seconds,
        "same_speech_as_in_training": dataset.info.fingerprint == run.dataset.fingerprint,
    }
