"""Recordings in, a dataset on disk out."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from rvc_jax.config import PrepareConfig
from rvc_jax.data.dataset import DatasetInfo, read_info
from rvc_jax.data.plan import Plan, make_plan
from rvc_jax.data.progress import Listener, Progress, silent
from rvc_jax.errors import UserError

__all__ = ["Progress", "prepare"]


def prepare(
    source: Path | str,
    out: Path | str,
    config: PrepareConfig,
    progress: Listener | None = None,
    overwrite: bool = False,
) -> DatasetInfo:
    """Make a dataset of the recordings in a folder (or of one file), whole or not at all.

    Files are read one by one, twice: first to find the speech and the hold-out, then to cut slices and compute their
    features.

    Args:
      out: folder to make; it becomes a version directory of TensorFlow Datasets.
      progress: is told of every file read and every slice finished.
      overwrite: replace a dataset that is there already; anything else is never replaced.

    Raises:
      UserError: no usable speech, settings that make no sense, `out` is in use, or the disk is full.
    """
    out = Path(out)
    listener = progress or silent
    _check_free(out, overwrite)
    plan = make_plan(source, config, listener)
    with _writing(out), _sibling(out) as temporary:
        info, written = _write(plan, listener, temporary)
        _replace(written, out)
    return info


def _write(plan: Plan, listener: Listener, folder: Path) -> tuple[DatasetInfo, Path]:
    """Write the records below a folder; returns what they are and their version directory."""
    from rvc_jax.data.builder import VoiceBuilder, VoiceConfig, tfds
    from rvc_jax.data.records import Records

    tfds.disable_progress_bar()
    config = VoiceConfig(name=plan.config.preset, prepare=plan.config, records=Records(plan, listener))
    builder = VoiceBuilder(config=config, data_dir=folder)
    builder._log_download_bytes = builder._log_download_done = lambda: None  # they print
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return builder.voice_info, Path(builder.data_dir)


def _check_free(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        parent = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UserError(f"{out} cannot be written: {parent} is not a folder, or not yours to write into")
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    try:
        read_info(out)
    except UserError as error:
        raise UserError(f"{out} exists and is not a dataset; name a new folder") from error
    if not overwrite:
        raise UserError(f"{out} is a dataset already; name a new folder, or overwrite it")


@contextlib.contextmanager
def _sibling(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, gone afterwards whatever happens."""
    folder = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(new: Path, out: Path) -> None:
    """Put the new folder in the place of the old one, which goes to where the new one was."""
    if not out.exists():
        os.rename(new, out)
        return
    old = new.with_name("old")
    os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        os.rename(old, out)
        raise


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Errors of the file system, also in TensorFlow's words, become the user's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (reason := _disk_trouble(error)) is None:
            raise
        raise UserError(f"{out} cannot be written: {reason}; nothing was kept") from error


def _disk_trouble(error: BaseException | None) -> str | None:
    """What the file system said, if that is what the error or one of its causes is about."""
    import tensorflow

    full = "disk full"
    while error is not None:
        if isinstance(error, tensorflow.errors.ResourceExhaustedError) or "No space left" in str(error):
            return full
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if isinstance(error, tensorflow.errors.OpError):
            return error.message
        error = error.__cause__ or error.__context__
    return None
