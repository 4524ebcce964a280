"""What a run writes down: `history.jsonl` for our own reports, TensorBoard for everybody's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import AudioConfig
from rvc_jax.storage.files import atomic_write


class MetricWriter:
    """Appends scalars, pictures and sound to a run's folder; after a resume nothing is recorded
    twice."""

    def __init__(self, run: Path, from_step: int):
        self._run = run
        self._history = run / "history.jsonl"
        self._unwritten: list[str] = []
        self._begin(from_step)

    def rewind(self, step: int) -> None:
        """The run goes on from an earlier step: what came after it is taken back."""
        self.close()
        self._unwritten = []
        self._begin(step)

    def _begin(self, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._drop_after(step)
        self._board = SummaryWriter(
            str(self._run / "metrics"), purge_step=step + 1, flush_secs=10
        )

    def scalars(self, step: int, values: dict[str, float | str]) -> None:
        """Values by name, at a step; words go to the history only."""
        self._unwritten.append(json.dumps({"step": step, **values}) + "\n")
        self._append()
        if not self._board_is_alive():
            return
        for name, value in values.items():
            if isinstance(value, str):
                continue
            self._board.add_scalar(name, value, step)

    def speech(self, step: int, name: str, wave: np.ndarray, audio: AudioConfig) -> None:
        """A waveform [samples], to be heard and as its log-mel."""
        if not self._board_is_alive():
            return
        peak = max(1.0, float(np.abs(wave).max(initial=0.0)))
        self._board.add_audio(
            f"holdout/{name}", wave[:, None] / peak, step, sample_rate=audio.sample_rate
        )
        self._board.add_image(
            f"holdout/{name}", colorize_mel(wave, audio), step, dataformats="HWC"
        )

    def close(self) -> None:
        if self._board_is_alive():
            self._board.close()

    def _append(self) -> None:
        """Lines for which the disk has no room are written later."""
        size = self._history.stat().st_size if self._history.exists() else 0
        try:
            with self._history.open("a") as file:
                file.writelines(self._unwritten)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            os.truncate(self._history, size)
        else:
            self._unwritten = []

    def _board_is_alive(self) -> bool:
        """TensorBoard's thread ends when the disk is full, and whoever gives it something then
        waits for ever."""
        worker = self._board.file_writer.event_writer._worker
        return worker is not None and worker.is_alive()

    def _drop_after(self, step: int) -> None:
        """A run continues from its last checkpoint: what was recorded after it will happen
        again."""
        if self._history.exists():
            lines = [
                line for line in self._history.read_text().splitlines() if line.endswith("}")
            ]
            with atomic_write(self._history) as file:
                file.writelines(
                    f"{line}\n".encode() for line in lines if json.loads(line)["step"] <= step
                )


def colorize_mel(wave: np.ndarray, audio: AudioConfig) -> np.ndarray:
    """Log-mel of a waveform [samples] in colour, low frequencies below -> uint8 [mels, frames,
    3]."""
    from matplotlib import colormaps

    mel = np.asarray(log_mel(spectrogram(wave[None], audio), audio))[0].T[::-1]
    level = np.clip((mel + 11.5) / 12.0, 0, 1)
    return np.uint8(255 * colormaps["magma"](level)[..., :3])
