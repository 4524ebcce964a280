"""The index of a run: made from its dataset when a voice is first saved or used."""

from __future__ import annotations

import contextlib

import numpy as np

from rvc_jax.data.dataset import VoiceDataset, open_dataset, read_info
from rvc_jax.data.index_rows import collect_index_rows
from rvc_jax.errors import UserError
from rvc_jax.reporter import Reporter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.storage.places import is_remote

_NETWORK_PATHS = ("//", "\\\\")
"""How paths begin that make Windows contact another machine."""


def write_index(run: RunFolder, data: VoiceDataset, reporter: Reporter) -> None:
    """Make the index of a run that has none.

    Args:
        run: The run.
        data: Its dataset, open.
        reporter: Receives a message if the index can't be made; the training goes on.
    """
    if run.has_index:
        return
    try:
        run.write_index(collect_index_rows(data))
    except (UserError, OSError) as error:
        reporter.message(f"the index is not written yet: {error}")


def read_or_make_index(run: RunFolder) -> tuple[np.ndarray | None, str]:
    """Read the index of a run. Make it, if the run has none and its dataset is on this machine.

    Returns:
        The index, float16 [rows, channels], and why there is none; one of the two is empty.

    Raises:
        UserError: The run's index is damaged.
    """
    index = run.index()
    if index is not None:
        return index, ""
    place = run.dataset_path
    # What only the run's config.json names is neither contacted nor downloaded.
    if place is None or is_remote(place) or str(place).startswith(_NETWORK_PATHS):
        return None, "no index: the run has none, and its dataset is not on this machine"
    try:
        if read_info(place).fingerprint != run.dataset.fingerprint:
            return None, f"no index: the run has none, and {place} is another dataset now"
        with open_dataset(place, memory_bytes=0) as data:
            index = collect_index_rows(data)
    except UserError as error:
        return None, f"no index: the run has none, and it can't be made: {error}"
    # It may be somebody else's run, or the disk may be full: then it is made again next time.
    with contextlib.suppress(UserError, OSError):
        run.write_index(index)
    return index, ""
