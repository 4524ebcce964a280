"""Exports voices to the formats of other tools. Every file is read back and compared."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvc_jax.config import (
    DEFAULT_EXPORT_FORMATS,
    EXPORT_FORMATS,
    FRAMES_PER_SECOND,
    PRESETS,
    DiscriminatorConfig,
    ExportConfig,
    ExportFormat,
    SpectralGeneratorConfig,
)
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.locks import Lock, NoLock, lock_folder, lock_output
from rvc_jax.storage.places import Location, is_remote, join, put
from rvc_jax.storage.scratch import clear_once, make_scratch_name, temporary_folder
from rvc_jax.voices.encoders import is_known, show
from rvc_jax.voices.export_writer import ExportWriter
from rvc_jax.voices.model import CONTENT_CHANNELS, PUBLIC_ENCODER, VoiceModel
from rvc_jax.voices.model_card import CardFile
from rvc_jax.voices.names import check_name, name_of_file
from rvc_jax.voices.open import open_voice

_FORMAT_OF_EXTENSION: dict[str, ExportFormat] = {".pth": "rvc", ".safetensors": "safetensors"}


@dataclasses.dataclass(frozen=True)
class VoicePlace:
    """Where a voice is, and what of it to take; see `open_voice`."""

    place: Location
    index: str | Path | None = None
    content_encoder: str | None = None
    member: str | None = None


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written, and how it compared with the voice."""

    out: Location
    name: str
    files: tuple[CardFile, ...]
    checks: dict[str, dict[str, Any]]
    """Results of the comparison by format; speech_difference_db is between clips of both."""
    notes: tuple[str, ...]
    """What was not written, and why; what to mind when using the files."""


def export(
    source: Location | VoicePlace,
    out: Location | None,
    config: ExportConfig,
    reporter: Reporter = SILENT,
) -> ExportResult:
    """Write a voice in other tools' formats.

    Args:
      source: A run's folder or URL, or a voice's file or imported folder.
      out: Folder or URL for the files; `voice` in the run's folder if None. Files of the same names
        are replaced.

    Raises:
      UserError: There is no voice, it can't be had in a format that was asked for, or a file was
        not read back as it was written. Nothing is left in `out` then, and what was there before
        still is.
    """
    if config.name:
        check_name(config.name)
    needs_checkpoint = not {"checkpoints", "all"}.isdisjoint(config.formats)
    if not isinstance(source, VoicePlace):
        source = VoicePlace(source)
    place = source.place
    model = open_voice(
        place,
        config.voice,
        index=source.index,
        content_encoder=source.content_encoder,
        member=source.member,
        with_checkpoint=needs_checkpoint,
    )
    model = model.with_file_name(name_of_file(place))
    if config.name:
        model = model.with_facts(name=config.name)
    if config.author:
        model = model.with_facts(author=config.author)
    formats, reasons = _choose_formats(config.formats, _unavailable_formats(model))
    target = out if out is not None else _default_out(place)
    with _locked(target, reporter), _temporary_folder(target) as folder:
        writer = ExportWriter(model, folder, reporter, config.license_note)
        for each in formats:
            writer.write(each, optional=each not in config.formats)
        writer.finish(formats)
        files = writer.files()
        for file in files:
            check_not_a_source(join(target, file.name), place)
        reporter.message("moving the files to their place")
        for file in files:
            _publish(folder / file.name, target)
    return ExportResult(
        out=target,
        name=model.facts["name"],
        files=files,
        checks=writer.checks,
        notes=(*model.notes, *reasons, *writer.notes, *_hints(model)),
    )


def save_voice(path: Path, model: VoiceModel) -> list[Path]:
    """Write one voice as .pth or .safetensors, by the extension, checked as `export` does.

    Beside a .pth, the voice's index becomes an .index.

    Returns:
      The files.

    Raises:
      UserError: The extension is another, the voice can't be had in that format, or a file was not
        read back as it was written.
    """
    check_output_path(path)
    kind = _FORMAT_OF_EXTENSION[path.suffix.lower()]
    model = dataclasses.replace(model.with_file_name(path.stem), run=None)
    reason = _unavailable_formats(model).get(kind)
    if reason:
        raise UserError(f"{path} can't be written: {reason}")
    with lock_output(path), _temporary_folder(path.parent) as folder:
        writer = ExportWriter(model, folder, SILENT)
        writer.write(kind, optional=False)
        written = {path: folder / writer.main_files[kind]}
        index = folder / writer.index_name
        if index.is_file():
            written[path.with_suffix(".index")] = index
        for target, file in written.items():
            file.replace(target)
    return list(written)


def check_not_a_source(path: Location, *sources: Location) -> None:
    """Raise UserError if a file to be written is one of those that were read."""
    for source in sources:
        both_exist = not any(
            is_remote(each) or not Path(each).exists() for each in (path, source)
        )
        if both_exist and Path(path).samefile(source):
            raise UserError(
                f"{path} is the voice itself, and would be overwritten: name another place with "
                "--out"
            )


def check_output_path(path: Path, *sources: Location) -> None:
    """Raise UserError unless a voice can be written to a path that is not one of its sources."""
    check_not_a_source(path, *sources)
    if path.suffix.lower() not in _FORMAT_OF_EXTENSION:
        raise UserError(f"{path}: a voice is written as .pth or .safetensors; name such a file")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: name a file in a folder that exists")


# --- formats ---


def _choose_formats(
    asked: Sequence[Any], unavailable: Mapping[ExportFormat, str]
) -> tuple[tuple[ExportFormat, ...], list[str]]:
    """The formats to write, and why others are not written.

    Raises UserError if one that was asked for by name is unavailable.
    """
    for each in asked:
        if each in unavailable:
            raise UserError(f"--format {each} is not possible: {unavailable[each]}")
    if asked and "all" not in asked:
        return tuple(dict.fromkeys(asked)), []
    wanted = EXPORT_FORMATS if asked else DEFAULT_EXPORT_FORMATS
    reasons = dict.fromkeys(unavailable[each] for each in wanted if each in unavailable)
    return tuple(each for each in wanted if each not in unavailable), list(reasons)


def _unavailable_formats(model: VoiceModel) -> dict[ExportFormat, str]:
    """Why a voice can't be had in some formats."""
    if not model.is_rvc_compatible:
        reason = _explain_incompatibility(model)
        return {"rvc": reason, "zip": reason, "checkpoints": reason}
    if model.run is None:
        return {"checkpoints": "only a run has what training goes on from; this is a voice"}
    if model.run.preset.discriminator != rvc_discriminator(model):
        return {"checkpoints": "the run's discriminator has other sizes than RVC's"}
    return {}


def _explain_incompatibility(model: VoiceModel) -> str:
    if isinstance(model.generator, SpectralGeneratorConfig):
        return (
            "the voice has the networks of the preset small, which RVC, Applio and w-okada's "
            "client can't load from a .pth: write it as onnx, or train with the preset 40k for them"
        )
    if model.content_layer is not None:
        return (
            f"the voice takes layer {model.content_layer} of its content encoder, and RVC, Applio "
            "and w-okada's client take another one from a .pth"
        )
    if model.content_encoder.startswith("whisper"):
        return (
            f"the voice uses the content encoder {model.content_encoder}, and RVC, Applio and "
            "w-okada's client only ContentVec and its kin "
            f"({CONTENT_CHANNELS[model.version]} channels); train with the preset 40k for them"
        )
    return (
        "the voice's networks have other sizes than RVC's, which RVC, Applio and w-okada's client "
        "can't load"
    )


def rvc_discriminator(model: VoiceModel) -> DiscriminatorConfig:
    """Return the sizes of RVC's discriminator for voices of the model's version."""
    return next(
        preset.discriminator for preset in PRESETS.values() if preset.version == model.version
    )


def _hints(model: VoiceModel) -> list[str]:
    """What users of the files in other tools should know."""
    if not model.is_rvc_compatible:
        return []
    hints = []
    encoder = model.content_encoder
    if encoder != PUBLIC_ENCODER:
        shown = encoder if is_known(encoder) else show(encoder)
        hints.append(
            f"its content encoder is {shown}: choose it in Applio; RVC and w-okada's client have "
            "ContentVec alone"
        )
    rates = model.rvc_sizes.upsample_rates
    if any(rate % 2 for rate in rates):
        hints.append(f"its upsampling by {list(rates)} is known to Applio alone")
    if model.hop * FRAMES_PER_SECOND != model.audio.sample_rate:
        hints.append(
            f"its frames have {model.hop} samples at {model.audio.sample_rate} Hz, not a hundredth "
            "of a second: other tools than Vietnamese-RVC change its length and pitch"
        )
    return hints


# --- folders ---


def _default_out(place: Location) -> Location:
    if is_remote(place):
        return join(place, "voice")
    path = Path(place)
    return (path if path.is_dir() else path.absolute().parent) / "voice"


def _locked(out: Location, reporter: Reporter) -> Lock | NoLock:
    if is_remote(out):
        return NoLock()
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out} is a file; name a folder for the voice's files")
    advice = "wait until it is done, or name another folder with --out"
    return lock_folder(Path(out), f"the folder {out}", advice, reporter)


@contextlib.contextmanager
def _temporary_folder(out: Location) -> Iterator[Path]:
    """Make a folder to write in, on the disk that the files are for, and remove it afterwards.

    `out` is made if need be; it goes again if it stays empty.
    """
    if is_remote(out):
        with temporary_folder() as folder:
            yield Path(folder)
        return
    out = Path(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    clear_once(out)
    unfinished = out / make_scratch_name("unfinished")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
    except OSError as error:
        raise UserError(f"{out} cannot be written: {describe_os_error(error)}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        # From the inside out; the first that is not empty ends it.
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def _publish(file: Path, out: Location) -> None:
    if is_remote(out):
        put(file, str(join(out, file.name)))
    else:
        file.replace(Path(out) / file.name)
