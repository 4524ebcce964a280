"""A voice in the forms that other tools read. Nothing is called written before it was read back and
heard."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.storage.files import file_sha256
from rvc_jax.storage.places import Location, is_remote, join, put
from rvc_jax.voices.export_check import ExportCheck, spectral_difference
from rvc_jax.voices.formats import faiss_index, onnx_model, pth_writer, safetensors_voice
from rvc_jax.voices.formats.pth_writer import ReadBackError
from rvc_jax.voices.formats.zip_archive import extract_model
from rvc_jax.voices.model import CONTENT_CHANNELS, VoiceModel
from rvc_jax.voices.model_card import CardFile, card
from rvc_jax.voices.voice_source import VoiceSource, check_name, epochs_of, named, open_source
from rvc_jax.weights import safetensors_file

Format = Literal["rvc", "zip", "onnx", "onnx-rvc", "safetensors", "checkpoints"]
FORMATS: tuple[Format, ...] = ("rvc", "zip", "onnx", "onnx-rvc", "safetensors", "checkpoints")
"""rvc is the .pth with its .index, zip both with the model card, onnx for w-okada's voice changer,
onnx-rvc with the inputs of RVC's own export, checkpoints what RVC and Applio train on from."""

DEFAULT_FORMATS: tuple[Format, ...] = ("rvc", "zip", "onnx", "safetensors")
SAFETENSORS = "model.safetensors"
TRAINING = ("G_2333333.pth", "D_2333333.pth")
"""By the number that RVC and Applio give to the latest checkpoint."""

MAX_DIFFERENCE_DB = 1.0
"""dB between the spectra of the voice and of what a file gives back; float16 takes a few
hundredths."""

Listener = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What is written, and what is said in it."""

    formats: tuple[Format | Literal["all"], ...] = ()
    """Nothing: those of DEFAULT_FORMATS that this voice can be had in; all: those of FORMATS."""
    name: str = ""
    """Of the voice and its files; the run's if empty."""
    voice: Literal["best", "latest"] = "best"
    author: str = ""
    license_note: str = ""
    """What the rights to the recordings are."""


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written, and how it compared with the voice."""

    out: Location
    name: str
    files: tuple[CardFile, ...]
    checks: dict[str, dict[str, Any]]
    """By format: figures of the comparison. speech_difference_db is between clips spoken by
    both."""
    notes: tuple[str, ...]
    """What was not written, and why; what to mind when using it."""


def export(
    place: Location,
    out: Location | None,
    config: ExportConfig,
    listener: Listener = lambda text: None,
) -> ExportResult:
    """Write a voice in other tools' forms.

    Args:
      place: a run's folder or URL, or a voice's file or imported folder.
      out: folder or URL for the files; `voice` below the run if not given. Files of the same names
          are replaced.
      listener: is told what is being done.

    Raises:
      UserError: there is no voice, it can't be had in a format that was asked for, or a file did
        not come back as it was written. Nothing is left in `out` then, and what was there before
        still is.
    """
    if config.name:
        check_name(config.name)
    with_training = not {"checkpoints", "all"}.isdisjoint(config.formats)
    source = _named(open_source(place, config.voice, with_training=with_training), config)
    formats, reasons = _chosen(config.formats, _unavailable_formats(source))
    where = out if out is not None else _default_out(place)
    with _folder_for(where) as folder:
        writer = _Writer(source, folder, listener, config.license_note)
        for each in formats:
            writer.write(each, optional=each not in config.formats)
        writer.finish(formats)
        files = writer.published()
        for file in files:
            check_not_a_source(join(where, file.name), place)
        listener("moving the files to their place")
        for file in files:
            _publish(folder / file.name, where)
    return ExportResult(
        where,
        source.model.facts["name"],
        files,
        writer.checks,
        (*reasons, *writer.notes, *_hints(source)),
    )


def save_voice(path: Path, model: VoiceModel, rows: np.ndarray | None = None) -> list[Path]:
    """Writes one voice as .pth or .safetensors, by the ending; checked as `export` does.

    rows: content features, for an .index beside a .pth.

    Returns: the files.

    Raises:
      UserError: another ending, a voice that can't be had in that form, or a file did not come back
          as written.
    """
    kinds: dict[str, Format] = {".pth": "rvc", ".safetensors": "safetensors"}
    check_output_path(path)
    kind = kinds[path.suffix.lower()]
    source = VoiceSource(named(model, path.stem), rows)
    if reason := _unavailable_formats(source).get(kind):
        raise UserError(f"{path} can't be written: {reason}")
    with _folder_for(path.parent) as folder:
        writer = _Writer(source, folder, lambda text: None)
        writer.write(kind, optional=False)
        written = {path: folder / writer.main[kind]}
        if (index := folder / writer.index_name).is_file():
            written[path.with_suffix(".index")] = index
        for target, file in written.items():
            os.replace(file, target)
    return list(written)


def check_not_a_source(path: Location, *sources: Location) -> None:
    """Raises UserError if a file to be written is one of those that were read."""
    for source in sources:
        both_here = not any(
            is_remote(each) or not Path(each).exists() for each in (path, source)
        )
        if both_here and Path(path).samefile(source):
            raise UserError(
                f"{path} is the voice itself, and would be overwritten: name another place with --out"
            )


def check_output_path(path: Path, *sources: Location) -> None:
    """Raises UserError unless a voice can be written to a path: by its ending, its folder, and what
    it is made of."""
    check_not_a_source(path, *sources)
    if path.suffix.lower() not in (".pth", ".safetensors"):
        raise UserError(f"{path}: a voice is written as .pth or .safetensors; name such a file")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: name a file in a folder that exists")


def _named(source: VoiceSource, config: ExportConfig) -> VoiceSource:
    """With the name and the author that were asked for."""
    given = {"name": config.name, "author": config.author}
    facts = {**source.model.facts, **{key: value for key, value in given.items() if value}}
    return dataclasses.replace(source, model=dataclasses.replace(source.model, facts=facts))


def _chosen(
    asked: Sequence[str], unfit: Mapping[str, str]
) -> tuple[tuple[Format, ...], list[str]]:
    """The formats to write, and why others are not. Raises UserError if one that was named is not
    possible."""
    for each in asked:
        if each in unfit:
            raise UserError(f"--format {each} is not possible: {unfit[each]}")
    if asked and "all" not in asked:
        return tuple(dict.fromkeys(asked)), []
    every = FORMATS if asked else DEFAULT_FORMATS
    return tuple(each for each in every if each not in unfit), list(
        dict.fromkeys(unfit[e] for e in every if e in unfit)
    )


def _unavailable_formats(source: VoiceSource) -> dict[str, str]:
    """By format: why this voice can't be had in it."""
    model = source.model
    reasons = {}
    if not model.is_rvc_compatible:
        reasons |= dict.fromkeys(("rvc", "zip", "checkpoints"), _explain_incompatibility(model))
    elif source.run is None:
        reasons["checkpoints"] = "only a run has what training goes on from; this is a voice"
    elif source.run.preset.discriminator != _public_discriminator(model):
        reasons["checkpoints"] = "the run's discriminator has other sizes than RVC's"
    return reasons


def _explain_incompatibility(model: VoiceModel) -> str:
    if model.content_encoder.startswith("whisper"):
        return (
            f"the voice hears through {model.content_encoder}, and RVC, Applio and w-okada's client only through "
            f"ContentVec and its kin ({CONTENT_CHANNELS[model.version]} channels); train with the preset 40k for them"
        )
    return "the voice's networks have other sizes than RVC's, which RVC, Applio and w-okada's client can't load"


def _public_discriminator(model: VoiceModel) -> Any:
    return next(
        preset.discriminator for preset in PRESETS.values() if preset.version == model.version
    )


def _hints(source: VoiceSource) -> list[str]:
    """What whoever uses the files elsewhere should know."""
    encoder = source.model.content_encoder
    if not source.model.is_rvc_compatible or encoder == "contentvec":
        return []
    return [
        f"its content encoder is {encoder}: choose it in Applio; RVC and w-okada's client have ContentVec alone"
    ]


def _default_out(place: Location) -> Location:
    if is_remote(place):
        return join(place, "voice")
    return (Path(place) if Path(place).is_dir() else Path(place).absolute().parent) / "voice"


@contextlib.contextmanager
def _folder_for(out: Location) -> Iterator[Path]:
    """A folder to write in that is gone afterwards, on the disk that the files are for; `out` is
    made if need be."""
    import tempfile

    if is_remote(out):
        with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
            yield Path(folder)
        return
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the voice's files")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    unfinished = out / f".{uuid.uuid4().hex}.unfinished"
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):  # those that have something in them stay
            for folder in made:
                folder.rmdir()


def _publish(file: Path, out: Location) -> None:
    if is_remote(out):
        put(file, str(join(out, file.name)))
    else:
        os.replace(file, Path(out) / file.name)


class _Writer:
    """Writes and checks one format after the other."""

    def __init__(
        self, source: VoiceSource, folder: Path, listener: Listener, license_note: str = ""
    ):
        self.source = source
        self.folder = folder
        self._listener = listener
        self._licence_note = license_note
        name = source.model.facts["name"]
        self.index_name = f"{name}.index"
        self.card_name = f"{name}.md"
        self.main = {
            "rvc": f"{name}.pth",
            "zip": f"{name}.zip",
            "onnx": f"{name}.onnx",
            "onnx-rvc": f"{name}.rvc.onnx",
            "safetensors": SAFETENSORS,
        }
        self.checks: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self._wanted: list[str] = []
        self._clip: ExportCheck | None = None

    def write(self, form: Format, optional: bool) -> None:
        """optional: a form that this machine lacks something for is noted, not an error."""
        self._listener(f"writing {form}")
        try:
            getattr(self, f"_write_{form.replace('-', '_')}")()
        except ReadBackError as error:
            raise UserError(
                f"the {form} export was read back and is not the voice ({error}): nothing was kept; check the disk"
            ) from None
        except UserError as error:
            if not optional or not form.startswith("onnx"):
                raise
            self.notes.append(f"no {form} file: {error}")

    def finish(self, formats: Collection[Format]) -> None:
        """Writes the card, and packs the archive that it belongs in."""
        files = self._files(name for name in self._wanted if name != self.main["zip"])
        text = card(self.source, files, self._licence_note)
        (self.folder / self.card_name).write_text(text, encoding="utf-8")
        self._wanted.append(self.card_name)
        if "zip" in formats:
            self._pack()

    def published(self) -> tuple[CardFile, ...]:
        return self._files(dict.fromkeys(self._wanted))

    def _files(self, names: Any) -> tuple[CardFile, ...]:
        paths = [self.folder / name for name in names]
        return tuple(
            CardFile(path.name, path.stat().st_size, file_sha256(path)) for path in paths
        )

    def _heard(
        self, weights: dict[str, np.ndarray] | None = None, wave: np.ndarray | None = None
    ) -> float:
        """dB between the voice's clip and that of what was read back. Raises ReadBackError if they
        differ."""
        clip = self.clip
        difference = spectral_difference(
            clip.spoken(weights) if wave is None else wave, clip.wave
        )
        if not difference <= MAX_DIFFERENCE_DB:
            raise ReadBackError(f"a clip spoken by both differs by {difference:.2f} dB")
        return difference

    @property
    def clip(self) -> ExportCheck:
        if self._clip is None:
            self._clip = ExportCheck(self.source.model, self.source.rows)
        return self._clip

    def _write_rvc(self) -> None:
        self._make_pth()
        self._wanted += [
            name
            for name in (self.main["rvc"], self.index_name)
            if (self.folder / name).exists()
        ]

    def _write_zip(self) -> None:
        """What goes into the archive; it is packed when everything else is there."""
        self._make_pth()

    def _make_pth(self) -> None:
        path = self.folder / self.main["rvc"]
        if path.exists():
            return
        model = self.source.model.without_posterior()
        found = pth_writer.write_checked(path, pth_writer.build_voice_content(model))["weight"]
        self.checks["rvc"] = {
            "tensors": len(found),
            "share_of_float16_rounding": pth_writer.rounding(found, model.weights),
            "speech_difference_db": self._heard(found),
        }
        self._make_index()

    def _make_index(self) -> None:
        rows = self.source.rows
        if rows is None or not len(rows):
            self.notes.append(
                "no .index: the voice has no content features of its training speech"
            )
            return
        path = self.folder / self.index_name
        faiss_index.write(path, rows)
        found = faiss_index.read(path)
        self.checks["index"] = {"rows": len(found), "channels": found.shape[1]} | compare_rows(
            found, rows
        )

    def _pack(self) -> None:
        path = self.folder / self.main["zip"]
        packed = [
            self.folder / name for name in (self.main["rvc"], self.index_name, self.card_name)
        ]
        packed = [file for file in packed if file.exists()]
        with zipfile.ZipFile(path, "w") as archive:
            for file in packed:
                archive.write(file, file.name)
        found = extract_model(path, self.folder / "unpacked")
        for file in filter(None, (found.pth, found.index)):
            if file_sha256(file) != file_sha256(self.folder / file.name):
                raise UserError(
                    f"{file.name} in the zip was read back and is not what was packed: check the disk"
                )
        self.checks["zip"] = {"members": [file.name for file in packed]}
        self._wanted.append(path.name)

    def _write_safetensors(self) -> None:
        path = self.folder / SAFETENSORS
        model = self.source.model
        safetensors_voice.write(path, model)
        found = safetensors_file.read(path)
        for name, array in model.weights.items():
            if name not in found or not np.array_equal(found[name], array):
                raise ReadBackError(f"{name} is not the voice's")
        if set(safetensors_file.metadata(path)) != {safetensors_voice.KEY}:
            raise ReadBackError("its description is missing")
        self.checks["safetensors"] = {
            "tensors": len(found),
            "speech_difference_db": self._heard(found),
        }
        self._wanted.append(SAFETENSORS)

    def _write_onnx(self) -> None:
        self._make_onnx("onnx", "w-okada")

    def _write_onnx_rvc(self) -> None:
        self._make_onnx("onnx-rvc", "rvc")

    def _make_onnx(self, form: Format, flavor: Literal["w-okada", "rvc"]) -> None:
        path = self.folder / self.main[form]
        model = self.source.model.without_posterior()
        largest = onnx_model.write(path, model, flavor)
        import onnxruntime

        session = onnxruntime.InferenceSession(onnx_model.disable_noise(path.read_bytes()))
        inputs = onnx_model.to_session_inputs(
            self.clip.inputs(), flavor, model.generator.has_pitch
        )
        wave = session.run(None, inputs)[0].reshape(-1)
        self.checks[form] = {
            "largest_difference": largest,
            "speech_difference_db": self._heard(wave=wave),
        }
        self._wanted.append(path.name)

    def _write_checkpoints(self) -> None:
        step, epoch, rate, networks = read_training_state(self.source.run)
        for name, weights in zip(TRAINING, networks, strict=True):
            content = pth_writer.build_checkpoint_content(
                weights, epoch, self.source.run.preset.train, rate
            )
            pth_writer.write_checked(self.folder / name, content)
            self._wanted.append(name)
        self.notes.append(
            f"G_ and D_ are of step {step}, the newest checkpoint; they begin with fresh moments of AdamW"
        )
        counts = dict(
            zip(("generator_tensors", "discriminator_tensors"), map(len, networks), strict=True)
        )
        self.checks["checkpoints"] = {"step": step, "epoch": epoch, **counts}


def compare_rows(found: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """How the rows of an index compare with those it was made from; in any order.

    Raises ReadBackError unless they are the same, or fewer ones that stand for many (above 200,000)
    and lie among them.
    """
    rows = np.asarray(rows, np.float32)
    if (
        found.ndim != 2
        or found.shape[1] != rows.shape[1]
        or not np.isfinite(found).all()
        or not len(found)
    ):
        raise ReadBackError("the index has no proper rows")
    if len(found) == len(rows):
        if not np.array_equal(found, rows) and _hashes(found) != _hashes(rows):
            raise ReadBackError("the rows of the index are not those of the voice")
        return {"same_rows": True}
    inside = (found >= rows.min(0) - 1e-3) & (found <= rows.max(0) + 1e-3)
    if len(rows) <= 200_000 or len(found) > len(rows) or not inside.all():
        raise ReadBackError(f"the index has {len(found)} rows of the voice's {len(rows)}")
    return {"same_rows": False, "clustered_from": len(rows)}


def _hashes(rows: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(rows, np.float32)
    return sorted(hashlib.blake2b(row, digest_size=16).digest() for row in rows)


def read_training_state(
    run: RunFolder,
) -> tuple[int, int, float, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Step, epoch, factor on the learning rate and both networks' state dicts of a run's newest
    checkpoint.

    Raises UserError if there is none, or it is damaged.
    """
    networks = {
        "generator": build_synthesizer(run.preset.generator, run.preset.audio),
        "discriminator": Network(Discriminator(run.preset.discriminator)),
    }
    template: dict[str, Any] = {
        kind: {name: np.zeros(shape, np.float32) for name, shape in network.shapes.items()}
        for kind, network in networks.items()
    }
    folder = run.voice_folder("latest")
    rate = {"rate": lambda fields: np.ones((), np.float32)}
    state = checkpoint.read(folder, template | {"rate": np.zeros((), np.float32)}, rate)
    public = tuple(network.to_public(state[kind]) for kind, network in networks.items())
    step = int(folder.name)
    return step, max(epochs_of(run, step), 1), float(state["rate"]), public
