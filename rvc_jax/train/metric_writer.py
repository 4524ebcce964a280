"""What a run records: its history for our own reports, and TensorBoard's files for everybody's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from rvc_jax.audio.mel_image import draw_log_mel
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import AudioConfig
from rvc_jax.runs.history import History
from rvc_jax.train.step import Metrics


class MetricWriter:
    """Writes scalars, images and sound of a run; after a resume nothing is recorded twice."""

    def __init__(self, run: Path, history: History, from_step: int):
        """Drop what was recorded after the step that the run continues from.

        Args:
            run: The run's folder.
            history: Its history; scalars are appended to it.
            from_step: Step that the run continues from; what came later will be recorded again.
        """
        self._run = run
        self._history = history
        self._open(from_step)

    def rewind(self, step: int) -> None:
        """Drop what was recorded after an earlier step that the run goes back to."""
        self.close()
        self._open(step)

    def _open(self, step: int) -> None:
        self._history.truncate(step)
        self._board = SummaryWriter(
            str(self._run / "metrics"), purge_step=step + 1, flush_secs=10
        )

    def write_scalars(self, step: int, values: Mapping[str, float | str]) -> None:
        """Record values by name at a step; strings go to the history only."""
        self._history.append(step, values)
        if not self._board_is_alive():
            return
        for name, value in values.items():
            if not isinstance(value, str):
                self._board.add_scalar(name, value, step)

    def write_speech(self, step: int, name: str, wave: np.ndarray, audio: AudioConfig) -> None:
        """Record a waveform [samples] as sound and as an image of its log-mel spectrogram."""
        if not self._board_is_alive():
            return
        tag = f"holdout/{name}"
        peak = max(1.0, float(np.abs(wave).max(initial=0.0)))
        self._board.add_audio(tag, wave[:, None] / peak, step, sample_rate=audio.sample_rate)
        self._board.add_image(tag, colorize_mel(wave, audio), step, dataformats="HWC")

    def close(self) -> None:
        """Write what TensorBoard's thread still holds, and end the thread."""
        if self._board_is_alive():
            self._board.close()

    def _board_is_alive(self) -> bool:
        """Return whether TensorBoard's thread runs.

        The thread ends when the disk is full. Its queue then fills up, and whatever is added to it
        blocks forever.
        """
        event_writer = getattr(self._board.file_writer, "event_writer", None)
        worker = getattr(event_writer, "_worker", None)
        return worker is not None and worker.is_alive()


def colorize_mel(wave: np.ndarray, audio: AudioConfig) -> np.ndarray:
    """Draw the log-mel spectrogram of a waveform.

    Args:
        wave: [samples].
        audio: Its sample rate and spectrogram.

    Returns:
        uint8 [mels, frames, 3], low frequencies at the bottom.
    """
    mel = log_mel(spectrogram(jnp.asarray(wave[None]), audio), audio)
    return draw_log_mel(np.asarray(mel)[0])


class DelayedMetrics:
    """Records the metrics of training steps one dispatch late.

    By then the device has computed them, so that neither the device nor the host waits.
    """

    def __init__(self, writer: MetricWriter, every: int, steps_per_epoch: int):
        """Record at an interval.

        Args:
            writer: What the metrics are written to.
            every: Steps between records; the first step is always recorded.
            steps_per_epoch: For the epoch that is recorded with them.
        """
        self._writer = writer
        self._every = every
        self._steps_per_epoch = steps_per_epoch
        self._pending: tuple[int, int, Metrics] | None = None
        self.losses: dict[str, float] = {}
        """The newest recorded metrics by name."""
        self.skipped = 0
        """Steps that were skipped because their loss or gradient was not finite."""
        self.consecutive_skips = 0
        """Skipped steps at the end of those known so far."""
        self.last_nonfinite = ""
        """Names of the metrics that were not finite in the last skipped step."""

    def add(self, step: int, count: int, metrics: Metrics) -> None:
        """Take the metrics of a dispatch, and record those of the dispatch before.

        Args:
            step: Last step of the dispatch.
            count: Number of its steps.
            metrics: Arrays [steps] on the device, by name; the first `count` values are valid.
        """
        self.flush()
        self._pending = (step, count, metrics)

    def flush(self) -> None:
        """Wait for the pending metrics, and record them."""
        if self._pending is None:
            return
        last, count, metrics = self._pending
        self._pending = None
        values = jax.device_get(metrics)
        for i in range(count):
            step = last - count + 1 + i
            self._record(step, {name: float(array[i]) for name, array in values.items()})

    def forget(self) -> None:
        """Drop the pending metrics: their steps are undone."""
        self._pending = None
        self.consecutive_skips = 0

    def _record(self, step: int, values: dict[str, float]) -> None:
        if values.pop("skipped"):
            self.skipped += 1
            self.consecutive_skips += 1
            nonfinite = [name for name, value in values.items() if not math.isfinite(value)]
            self.last_nonfinite = ", ".join(nonfinite)
            return
        self.consecutive_skips = 0
        if step == 1 or step % self._every == 0:
            self.losses = values
            self._writer.write_scalars(step, {"epoch": step / self._steps_per_epoch} | values)
