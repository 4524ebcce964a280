"""Writes a voice in one format after the other, and checks each file by reading it back."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import ExportFormat
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.reporter import Reporter
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.storage.files import file_sha256
from rvc_jax.voices.export_check import ExportCheck, spectral_difference
from rvc_jax.voices.formats import faiss_index, native, onnx_model, pth_writer
from rvc_jax.voices.formats.faiss_index import MAX_ROWS
from rvc_jax.voices.formats.onnx_model import Flavor
from rvc_jax.voices.formats.pth_writer import ReadBackError
from rvc_jax.voices.formats.zip_archive import extract_model
from rvc_jax.voices.model import VoiceModel, count_epochs
from rvc_jax.voices.model_card import CardFile, render_card
from rvc_jax.voices.names import to_stem
from rvc_jax.weights import safetensors_file

TRAINING_FILES = ("G_0.pth", "D_0.pth")
"""Names with the lowest number: RVC's tools continue from the highest, which is then their own."""

MAX_DIFFERENCE_DB = 1.0
"""Between the spectra of clips of the voice and of a file; float16 takes a few hundredths."""


class ExportWriter:
    """Writes and checks the files of one voice in a folder."""

    def __init__(
        self, model: VoiceModel, folder: Path, reporter: Reporter, license_note: str = ""
    ):
        """Prepare to write.

        Args:
          model: Its facts have a name, which becomes that of the files.
          license_note: The rights to the recordings, for the model card.
        """
        self.model = model
        self.folder = folder
        self.reporter = reporter
        self.license_note = license_note
        name = to_stem(model.facts["name"])
        self.index_name = f"{name}.index"
        self.card_name = f"{name}.md"
        self.main_files: dict[ExportFormat, str] = {
            "rvc": f"{name}.pth",
            "zip": f"{name}.zip",
            "onnx": f"{name}.onnx",
            "onnx-rvc": f"{name}.rvc.onnx",
            "safetensors": native.MODEL,
        }
        self.checks: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self._published: list[str] = []
        self._clip: ExportCheck | None = None

    def write(self, kind: ExportFormat, optional: bool) -> None:
        """Write and check one format.

        Args:
          optional: Add a note instead of an error if a package for the format is not installed.

        Raises:
          UserError: The disk refuses, or the file was not read back as it was written.
        """
        self.reporter.message(f"writing {kind}")
        write = {
            "rvc": self._write_rvc,
            "zip": self._make_pth,  # it is packed when everything else is there
            "onnx": lambda: self._write_onnx("onnx", "w-okada"),
            "onnx-rvc": lambda: self._write_onnx("onnx-rvc", "rvc"),
            "safetensors": self._write_safetensors,
            "checkpoints": self._write_checkpoints,
        }[kind]
        try:
            write()
        except ReadBackError as error:
            raise UserError(
                f"the {kind} export was read back and is not the voice ({error}): nothing was "
                "kept; check the disk"
            ) from None
        except UserError as error:
            if not optional or not kind.startswith("onnx"):
                raise
            self.notes.append(f"no {kind} file: {error}")

    def finish(self, formats: Collection[ExportFormat]) -> None:
        """Write the model card, and pack the archive that contains it."""
        shared = [name for name in self._published if name != self.main_files["zip"]]
        text = render_card(self.model, self._describe(shared), self.license_note)
        (self.folder / self.card_name).write_text(text, encoding="utf-8")
        self._published.append(self.card_name)
        if "zip" in formats:
            self._pack()

    def files(self) -> tuple[CardFile, ...]:
        """List the finished files."""
        return self._describe(dict.fromkeys(self._published))

    def _describe(self, names: Iterable[str]) -> tuple[CardFile, ...]:
        paths = [self.folder / name for name in names]
        return tuple(
            CardFile(path.name, path.stat().st_size, file_sha256(path)) for path in paths
        )

    # --- one format each ---

    def _write_rvc(self) -> None:
        self._make_pth()
        names = (self.main_files["rvc"], self.index_name)
        self._published += [name for name in names if (self.folder / name).exists()]

    def _make_pth(self) -> None:
        """Write the .pth and the .index, once for both formats that contain them."""
        path = self.folder / self.main_files["rvc"]
        if path.exists():
            return
        model = self.model.without_posterior()
        content = pth_writer.write_checked(path, pth_writer.build_voice_content(model))
        weights = content["weight"]
        self.checks["rvc"] = {
            "tensors": len(weights),
            "share_of_float16_rounding": pth_writer.measure_rounding(weights, model.weights),
            "speech_difference_db": self._compare_clip(self.clip.render(weights)),
        }
        self._make_index()

    def _make_index(self) -> None:
        rows = self.model.index
        if rows is None or not len(rows):
            self.notes.append(
                "no .index: the voice has no content features of its training speech"
            )
            return
        path = self.folder / self.index_name
        faiss_index.write(path, rows)
        found = faiss_index.read(path)
        sizes = {"rows": len(found), "channels": found.shape[1]}
        self.checks["index"] = sizes | compare_rows(found, rows)

    def _pack(self) -> None:
        path = self.folder / self.main_files["zip"]
        names = (self.main_files["rvc"], self.index_name, self.card_name)
        members = [self.folder / name for name in names if (self.folder / name).exists()]
        with zipfile.ZipFile(path, "w") as archive:
            for file in members:
                archive.write(file, file.name)
        unpacked = extract_model(path, self.folder / "unpacked")
        # A file may have another spelling of the same name: letters with accents have two.
        for file, name in ((unpacked.pth, names[0]), (unpacked.index, names[1])):
            if file is not None and file_sha256(file) != file_sha256(self.folder / name):
                raise UserError(
                    f"{name} in the zip was read back and is not what was packed: check the disk"
                )
        self.checks["zip"] = {"members": [file.name for file in members]}
        self._published.append(path.name)

    def _write_safetensors(self) -> None:
        path = self.folder / self.main_files["safetensors"]
        native.write(path, self.model)
        found = safetensors_file.read(path)
        for name, array in self.model.weights.items():
            if name not in found or not np.array_equal(found[name], array):
                raise ReadBackError(f"{name} is not the voice's")
        if set(safetensors_file.metadata(path)) != {native.METADATA_KEY}:
            raise ReadBackError("its description is missing")
        self.checks["safetensors"] = {
            "tensors": len(found),
            "speech_difference_db": self._compare_clip(self.clip.render(found)),
        }
        self._published.append(path.name)

    def _write_onnx(self, kind: ExportFormat, flavor: Flavor) -> None:
        path = self.folder / self.main_files[kind]
        model = self.model.without_posterior()
        largest = onnx_model.write(path, model, flavor)
        wave = onnx_model.render(path, self.clip.inputs(), flavor, model.generator.has_pitch)
        self.checks[kind] = {
            "largest_difference": largest,
            "speech_difference_db": self._compare_clip(wave),
        }
        self._published.append(path.name)

    def _write_checkpoints(self) -> None:
        run = self.model.run
        assert run is not None  # `export` offers this format for runs alone
        step, epoch, rate, networks = read_training_state(run)
        for name, weights in zip(TRAINING_FILES, networks, strict=True):
            content = pth_writer.build_checkpoint_content(
                weights, epoch, run.preset.train, rate
            )
            pth_writer.write_checked(self.folder / name, content)
            self._published.append(name)
        self.notes.append(
            f"G_ and D_ are of step {step}, the newest checkpoint; they begin with fresh moments "
            "of AdamW"
        )
        generator, discriminator = networks
        self.checks["checkpoints"] = {
            "step": step,
            "epoch": epoch,
            "generator_tensors": len(generator),
            "discriminator_tensors": len(discriminator),
        }

    # --- comparing ---

    @property
    def clip(self) -> ExportCheck:
        """The clip of the voice, rendered when it is first needed."""
        if self._clip is None:
            self._clip = ExportCheck(self.model)
        return self._clip

    def _compare_clip(self, wave: np.ndarray) -> float:
        """dB between the voice's clip and that of a file. Raises ReadBackError if they differ."""
        difference = spectral_difference(wave, self.clip.wave)
        if not difference <= MAX_DIFFERENCE_DB:  # NaN as well
            raise ReadBackError(f"a clip rendered by both differs by {difference:.2f} dB")
        return difference


def compare_rows(found: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Compare the rows of an index, in any order, with those that it was made from.

    Raises:
      ReadBackError: They are not the same; or, above 200,000 rows, not fewer ones that represent
        many and lie among them.
    """
    rows = np.asarray(rows, np.float32)
    has_rows = found.ndim == 2 and found.shape[1] == rows.shape[1] and len(found) > 0
    if not has_rows or not np.isfinite(found).all():
        raise ReadBackError("the index has no proper rows")
    if len(found) == len(rows):
        if not np.array_equal(found, rows) and _hash_rows(found) != _hash_rows(rows):
            raise ReadBackError("the rows of the index are not those of the voice")
        return {"same_rows": True}
    inside = (found >= rows.min(0) - 1e-3) & (found <= rows.max(0) + 1e-3)
    if len(rows) <= MAX_ROWS or len(found) > len(rows) or not inside.all():
        raise ReadBackError(f"the index has {len(found)} rows of the voice's {len(rows)}")
    return {"same_rows": False, "clustered_from": len(rows)}


def _hash_rows(rows: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(rows, np.float32)
    return sorted(hashlib.blake2b(row, digest_size=16).digest() for row in rows)


def read_training_state(
    run: RunFolder,
) -> tuple[int, int, float, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Read what training continues from, out of a run's newest checkpoint.

    Returns:
      Its step, its epoch, the factor on the learning rate, and the state dicts of generator and
      discriminator under the public names.

    Raises:
      UserError: There is none, or it is damaged.
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
    template["rate"] = np.zeros((), np.float32)
    # Old checkpoints have no rate.
    defaults = {"rate": lambda fields: np.ones((), np.float32)}
    state = checkpoint.read(folder, template, defaults)
    generator = networks["generator"].to_public(state["generator"])
    discriminator = networks["discriminator"].to_public(state["discriminator"])
    step = int(folder.name)
    epoch = max(count_epochs(run, step), 1)
    return step, epoch, float(state["rate"]), (generator, discriminator)
