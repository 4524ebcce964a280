"""Prepare a dataset: recordings in, TFRecord shards out.

`prepare` reads from top to bottom: find the sources, extract features (`data.extraction`), split
(`data.split`), write the records (`data.records`, `data.tfds_builder`), move them into place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from rvc_jax.config import PrepareConfig
from rvc_jax.data.beam import BeamSettings, analyze_with_beam
from rvc_jax.data.cache import Cache
from rvc_jax.data.dataset import DatasetInfo, read_info
from rvc_jax.data.extraction import analyze
from rvc_jax.data.preset_advice import advise_on_preset
from rvc_jax.data.records import Records
from rvc_jax.data.sources import find_sources
from rvc_jax.data.split import check_settings, split_slices
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage import places
from rvc_jax.storage.files import disk_full, find_full_place, is_vacant
from rvc_jax.storage.locks import Lock, NoLock, lock_beside, shorten_name
from rvc_jax.storage.places import Location
from rvc_jax.storage.scratch import own_tempfiles, temporary_folder
from rvc_jax.weights.registry import ENTRIES

__all__ = ["BeamSettings", "prepare"]

_UNFINISHED = ".unfinished"
_OLD = "old"
_METADATA = "metadata.json"
_SHARED_SCHEMES = ("gs://", "s3://")
"""Places that workers on other machines can write to."""


def prepare(
    source: Location,
    out: Location,
    config: PrepareConfig,
    reporter: Reporter = SILENT,
    overwrite: bool = False,
    cache: Location | None = None,
    beam: BeamSettings | None = None,
) -> DatasetInfo:
    """Make a dataset of a folder of recordings, one recording, or a recipe; whole or not at all.

    Features are kept in the cache: an interrupted preparation continues where it was, and one more
    file costs that file's work only.

    Args:
        source: Folder, recording, or recipe (.toml).
        out: Folder to make; it becomes a version directory of TensorFlow Datasets.
        config: How speech becomes a dataset.
        reporter: Receives the progress.
        overwrite: Replace an existing dataset. Anything else is never replaced.
        cache: Folder of the features, by default `features` in the user's cache folder. With Beam,
            all workers must reach it.
        beam: Where to run; by default in this process.

    Returns:
        What the dataset is made of.

    Raises:
        UserError: There is no usable speech; a setting is out of its range; weights cannot be
            downloaded; `out` is in use; or the disk is full.
    """
    config = _make_encoder_absolute(config.resolved())
    check_settings(config)
    _check_out(out, overwrite)
    with _locked(out, reporter) as lock, temporary_folder() as scratch:
        _clear_unfinished(out)
        _check_out(out, overwrite)  # again, because it was not ours before
        sources = find_sources(source, config.speakers, reporter)
        _advise(config, reporter)
        store = Cache(cache)
        _download_weights(config, reporter)
        with (
            _write_errors(out),
            own_tempfiles(scratch),
            _temporary_sibling(out) as folder,
            _remote_shard_folder(out, beam) as shards,
        ):
            if beam:
                analyses = analyze_with_beam(sources.cuts, config, store, beam)
            else:
                analyses = list(analyze(sources.cuts, config, store, reporter))
            records = Records(split_slices(sources, config, analyses), store)
            info, written = _write_records(records, reporter, folder, beam, shards)
            # Programs without our lock may have made something there meanwhile.
            lock.check()
            _check_out(out, overwrite)
            _move_into_place(written, out, shards, overwrite)
        if store.damaged:
            reporter.message(
                f"{store.damaged} damaged entries of the cache {store.root} were computed again"
            )
    return info


def _advise(config: PrepareConfig, reporter: Reporter) -> None:
    """Say that a preset can hardly be trained here, before the work for it begins."""
    import jax

    advice = advise_on_preset(config.preset, jax.default_backend())
    if advice:
        reporter.message(advice)


def _locked(out: Location, reporter: Reporter) -> Lock | NoLock:
    if places.is_remote(out):
        return NoLock()  # what is there is checked again before it is replaced
    return lock_beside(
        Path(out),
        f"the dataset {out}",
        "wait until it is done, or name another folder with --out",
        reporter,
    )


def _make_encoder_absolute(config: PrepareConfig) -> PrepareConfig:
    """Make the path of a content encoder absolute, so that it is found from any folder."""
    encoder = Path(config.content_encoder or "")
    if config.content_encoder is None or not encoder.exists():
        return config
    return dataclasses.replace(config, content_encoder=str(encoder.absolute()))


def _download_weights(config: PrepareConfig, reporter: Reporter) -> None:
    """Download the extractors' weights before they are needed, so that the wait is reported."""
    from rvc_jax.weights import store

    for name in (config.f0_method, config.content_encoder):
        if name is None:
            continue
        if name in ENTRIES:
            store.path(name, reporter)
        elif store.is_hub_name(name) and not Path(name).exists():
            store.hub_model(name, reporter)


def _write_records(
    records: Records,
    reporter: Reporter,
    folder: Path,
    beam: BeamSettings | None,
    shards: str | None,
) -> tuple[DatasetInfo, Path]:
    """Write the records below a folder; return what they are and their version directory.

    With `shards`, a remote folder, the shards go there instead.
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
    download: dict[str, object] = {"try_download_gcs": False}
    if beam:
        download |= {"beam_runner": beam.runner, "beam_options": beam.pipeline_options()}
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**download))
    return builder.voice_info, Path(builder.data_dir)


def _check_out(out: Location, overwrite: bool) -> None:
    """Check that the dataset can be made at `out`: it is free, or a dataset to overwrite."""
    if not places.exists(out):
        if not places.is_remote(out):
            _check_parent(Path(out))
        return
    if not places.is_remote(out) and is_vacant(Path(out)):
        return
    try:
        read_info(out)
    except UserError as error:
        if "version" not in str(error):  # a dataset of another version may be replaced
            raise UserError(f"{out} exists and is not a dataset; name a new folder") from error
    if not overwrite:
        raise UserError(f"{out} is a dataset already; name a new folder, or overwrite it")


def _check_parent(out: Path) -> None:
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{out} cannot be written: its name is not valid text (UTF-8)"
        ) from None
    parent = next(place for place in out.absolute().parents if os.path.lexists(place))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(
            f"{out} cannot be written: {parent} is not a folder, or not yours to write into"
        )


def _clear_unfinished(out: Location) -> None:
    """Remove the temporary folders that killed processes have left beside `out`.

    Only a process with the lock of `out` makes such a folder. The dataset that was to be replaced
    is put back if the process was killed before the new one was in its place.
    """
    if places.is_remote(out):
        return
    out = Path(os.path.realpath(out))
    pattern = f".{glob.escape(shorten_name(out.name))}.*{_UNFINISHED}"
    for leftover in out.parent.glob(pattern):
        if not os.path.lexists(out) and (leftover / _OLD / _METADATA).exists():
            (leftover / _OLD).rename(out)
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _temporary_sibling(out: Location) -> Iterator[Path]:
    """Make a temporary folder on the disk of `out`, and remove it at the end."""
    if places.is_remote(out):
        with temporary_folder() as temporary:
            yield temporary
        return
    out = Path(os.path.realpath(out))
    name = shorten_name(out.name)
    folder = out.parent / f".{name}.{uuid.uuid4().hex[:8]}{_UNFINISHED}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _remote_shard_folder(out: Location, beam: BeamSettings | None) -> Iterator[str | None]:
    """Make a name for a remote folder beside `out`, and remove that folder at the end.

    Beam's workers write shards there, since they do not see this machine's folders. None if they
    do: without Beam, or with a local `out`.
    """
    if beam is None or not str(out).startswith(_SHARED_SCHEMES):
        yield None
        return
    parent, _, name = str(out).rstrip("/").rpartition("/")
    folder = f"{parent}/.{name}.{uuid.uuid4().hex}{_UNFINISHED}"
    try:
        yield folder
    finally:
        places.remove(folder)


def _move_into_place(new: Path, out: Location, shards: str | None, overwrite: bool) -> None:
    """Move the new folder to `out` and, if given, the remote shards.

    Nothing but an empty folder is replaced without `overwrite`.
    """
    if places.is_remote(out):
        # The metadata goes first and comes last: half a dataset must not look like one.
        places.discard(places.join(out, _METADATA))
        places.remove(out)
        if shards:
            places.copy(shards, str(out))
        places.upload(new, out, last=_METADATA)
        return
    out = Path(os.path.realpath(out))
    if not overwrite or is_vacant(out):
        new.rename(out)  # fails where something is
        return
    old = new.with_name(_OLD)  # removed with the temporary folder
    out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        old.rename(out)
        raise


@contextlib.contextmanager
def _write_errors(out: Location) -> Iterator[None]:
    """Turn errors of the file system, also TensorFlow's, into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _find_file_system_reason(error)
        if reason is None:
            raise
        local = None if places.is_remote(out) else Path(out)
        if disk_full(error) and (other := find_full_place(other_than=local)):
            raise UserError(f"disk full: {other}; nothing was kept") from error
        raise UserError(f"{out} cannot be written: {reason}; nothing was kept") from error


def _find_file_system_reason(error: BaseException | None) -> str | None:
    """Return what the file system reported, if the error or one of its causes is about that."""
    if disk_full(error):
        return "disk full"
    tensorflow = sys.modules.get("tensorflow")
    while error is not None:
        if isinstance(error, OSError):
            return describe_os_error(error)
        if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
            return error.message  # pyright: ignore[reportAttributeAccessIssue]  # lazy module
        error = error.__cause__ or error.__context__
    return None
