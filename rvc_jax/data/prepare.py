"""Recordings in, a dataset on disk out."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from rvc_jax.config import PrepareConfig
from rvc_jax.data.beam import BeamSettings, analyze_with_beam
from rvc_jax.data.cache import Cache
from rvc_jax.data.dataset import DatasetInfo, read_info
from rvc_jax.data.extraction import analyze
from rvc_jax.data.records import Records
from rvc_jax.data.sources import find_sources
from rvc_jax.data.split import check_settings, split_slices
from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage import places
from rvc_jax.storage.places import Location
from rvc_jax.weights.registry import ENTRIES

__all__ = ["BeamSettings", "prepare"]

_STALE = ".unfinished"
_DESCRIPTION = "metadata.json"
_WRITTEN_BY_WORKERS = ("gs://", "s3://")
"""Places that workers on other machines reach, too."""


def prepare(
    source: Location,
    out: Location,
    config: PrepareConfig,
    reporter: Reporter | None = None,
    overwrite: bool = False,
    cache: Location | None = None,
    beam: BeamSettings | None = None,
) -> DatasetInfo:
    """Make a dataset of the recordings in a folder (or of one file, or of a recipe), whole or not
    at all.

    First every source is cut and the features of its slices are computed; they are kept in the
    cache, so that a preparation that was stopped goes on where it was, and one with another file
    computes that file only. Then the slices are divided between training and hold-out, and written.

    Args:
      out: folder to make; it becomes a version directory of TensorFlow Datasets.
      reporter: receives the progress.
      overwrite: replace a dataset that is there already; anything else is never replaced.
      cache: folder of the features, by default `features` in `environment.home()`. With Beam, all
          workers must see it.
      beam: where to run, instead of in this process.

    Raises:
      UserError: no usable speech, settings that make no sense, weights that cannot be had, `out` is
        in use, or the disk is full.
    """
    reporter = reporter or SILENT
    config = _lasting(config.resolved())
    check_settings(config)
    _check_free(out, overwrite)
    sources = find_sources(source, config.speakers, reporter)
    store = Cache(cache)
    _bring_weights(config, reporter)
    with _writing(out):
        if beam:
            analyses = analyze_with_beam(sources.cuts, config, store, beam)
        else:
            analyses = list(analyze(sources.cuts, config, store, reporter))
        records = Records(split_slices(sources, config, analyses), store)
        with _sibling(out) as temporary, _shared_room(out, beam) as shards:
            info, written = _write(records, reporter, temporary, beam, shards)
            _deliver(written, out, shards)
    return info


def _lasting(config: PrepareConfig) -> PrepareConfig:
    """A content encoder in a folder or file is found again from everywhere."""
    encoder = Path(config.content_encoder)
    return (
        dataclasses.replace(config, content_encoder=str(encoder.absolute()))
        if encoder.exists()
        else config
    )


def _bring_weights(config: PrepareConfig, reporter: Reporter) -> None:
    """Download what the extractors need now, so that the wait is seen."""
    from rvc_jax.weights import store

    def told(file: str, done: int, total: int | None) -> None:
        reporter.progress("download", done if total else 0, total or 1, file)

    for name in (config.f0_method, config.content_encoder):
        if name in ENTRIES:
            store.path(name, told)
        elif store.is_hub_name(name) and not Path(name).exists():
            store.hub_model(name, told)


def _write(
    records: Records,
    reporter: Reporter,
    folder: Path,
    beam: BeamSettings | None,
    shards: str | None,
) -> tuple[DatasetInfo, Path]:
    """Write the records below a folder; returns what they are and their version directory.

    With `shards`, that directory lacks the shards: they are in this remote folder.
    """
    from rvc_jax.data.tfds_builder import VoiceBuilder, VoiceConfig, tfds

    tfds.disable_progress_bar()
    config = records.plan.config
    settings = VoiceConfig(
        name=config.preset,
        prepare=config,
        records=records,
        reporter=reporter,
        beam=beam is not None,
        shards=shards,
    )
    builder = VoiceBuilder(config=settings, data_dir=folder)
    builder._log_download_bytes = builder._log_download_done = lambda: None  # they print
    download = {"try_download_gcs": False}
    if beam:
        download |= {"beam_runner": beam.runner, "beam_options": beam.pipeline_options()}
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**download))
    return builder.voice_info, Path(builder.data_dir)


def _check_free(out: Location, overwrite: bool) -> None:
    if not places.exists(out):
        if not places.is_remote(out):
            _check_parent(Path(out))
        return
    if not places.is_remote(out) and Path(out).is_dir() and not any(Path(out).iterdir()):
        return
    try:
        read_info(out)
    except UserError as error:
        if "version" not in str(error):  # an older dataset of ours may be replaced
            raise UserError(f"{out} exists and is not a dataset; name a new folder") from error
    if not overwrite:
        raise UserError(f"{out} is a dataset already; name a new folder, or overwrite it")


def _check_parent(out: Path) -> None:
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(f"{out} cannot be written: its name is no valid text (UTF-8)") from None
    parent = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(
            f"{out} cannot be written: {parent} is not a folder, or not yours to write into"
        )


@contextlib.contextmanager
def _sibling(out: Location) -> Iterator[Path]:
    """A temporary folder beside `out`, gone afterwards whatever happens; also what a killed process
    has left there."""
    if places.is_remote(out):
        with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
            yield Path(folder)
        return
    out = Path(out).absolute()
    for left in out.parent.glob(f".{glob.escape(out.name)}.*{_STALE}"):
        owner = left.name.removesuffix(_STALE).rpartition(".")[2]
        if not (owner.isdecimal() and psutil.pid_exists(int(owner))):
            shutil.rmtree(left, ignore_errors=True)
    folder = out.parent / f".{out.name}.{os.getpid()}{_STALE}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _shared_room(out: Location, beam: BeamSettings | None) -> Iterator[str | None]:
    """A remote folder beside `out` for shards, gone afterwards: Beam's workers do not see folders
    of this machine."""
    if beam is None or not str(out).startswith(_WRITTEN_BY_WORKERS):
        yield None
        return
    parent, _, name = str(out).rstrip("/").rpartition("/")
    folder = f"{parent}/.{name}.{uuid.uuid4().hex}{_STALE}"
    try:
        yield folder
    finally:
        places.remove(folder)


def _deliver(new: Path, out: Location, shards: str | None) -> None:
    """Put the new folder, and what is in the remote one, in the place of the old one."""
    if places.is_remote(out):
        places.discard(
            places.join(out, _DESCRIPTION)
        )  # first: half a dataset must not look like one
        places.remove(str(out))
        if shards:
            places.copy(shards, str(out))
        places.upload(new, str(out), last=_DESCRIPTION)
        return
    out = Path(out)
    if not out.exists():
        os.rename(new, out)
        return
    old = new.with_name("old")  # it goes with the temporary folder
    os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        os.rename(old, out)
        raise


@contextlib.contextmanager
def _writing(out: Location) -> Iterator[None]:
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
        if isinstance(
            error, tensorflow.errors.ResourceExhaustedError
        ) or "No space left" in str(error):
            return full
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if isinstance(error, tensorflow.errors.OpError):
            return error.message
        error = error.__cause__ or error.__context__
    return None
