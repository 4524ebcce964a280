"""Training windows that stay in the dataset's shards, and are read when a step needs them.

They are those of `Windows`, bit for bit and in the same order. In memory are their addresses: some
hundred bytes for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from rvc_jax.data.quantization import quantize
from rvc_jax.data.tfds_reader import Address, StoredSplit
from rvc_jax.data.windows import FIELDS, Fields, Layout

_THREADS = 4
"""Readers. Disks and network file systems answer several at once faster than one by one."""


class StoredWindows:
    """Windows of a split on disk. They are valid as long as the split is open."""

    def __init__(
        self,
        split: StoredSplit,
        layout: Layout,
        addresses: Sequence[Address],
        lengths: np.ndarray,
        speaker: np.ndarray,
        hashes: Sequence[bytes],
        scale: float,
        report_damage: Callable[[], AbstractContextManager[None]],
    ):
        """Keep what a pass over the split has found; every list has one value per window.

        Args:
            split: Reads the records.
            layout: Size of the windows.
            addresses: Where the records are.
            lengths: int32 [slices].
            speaker: int32 [slices].
            hashes: What `hash_rows` yields.
            scale: Amplitude of 1 in `wave`.
            report_damage: Makes a context that turns errors of reading into a UserError.
        """
        self.lengths = lengths
        self.speaker = speaker
        self.scale = scale
        self._split = split
        self._layout = layout
        self._addresses = addresses
        self._hashes = hashes
        self._report_damage = report_damage
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="windows")

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: np.ndarray, names: Sequence[str] = FIELDS) -> Fields:
        """Read windows by their numbers [...]: arrays [..., ...] of the named fields.

        Raises:
            UserError: A record is damaged, or another dataset has taken this one's place.
        """
        fields = self._layout.allocate(rows.shape, names)

        def read(at: tuple[int, ...]) -> None:
            self._read(fields, at, int(rows[at]))

        list(self._pool.map(read, np.ndindex(rows.shape)))
        return fields

    def hash_rows(self) -> Iterator[bytes]:
        """Yield a hash of every window without its sound and content."""
        yield from self._hashes

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self, fields: Fields, at: tuple[int, ...], row: int) -> None:
        with self._report_damage():
            record = self._split.read(self._addresses[row])
            wave = record["wave"]
            if wave.dtype != np.int16:
                wave = quantize(wave, self.scale)  # as `quantize_windows` does
            self._layout.fill(fields, at, record, wave)
