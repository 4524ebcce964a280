"""The model card of a voice, in Markdown: its origin, hold-out scores, use and rights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import make_printable
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation, get_evaluation_metrics, select_evaluations
from rvc_jax.runs.learning_curve import summary
from rvc_jax.version import __version__
from rvc_jax.voices.encoders import is_known
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.names import to_stem
from rvc_jax.weights.store import is_hub_name

_SCORES = {
    "mel": "log-mel error",
    "stft": "multi-resolution STFT distance",
    "f0_median_cents": "pitch error, cents (median)",
    "f0_rmse_cents": "pitch error, cents (RMS without gross errors)",
    "gross_pitch_errors": "pitch more than 20 % off, share",
    "voicing_error": "frames voiced in one only, share",
    "similarity": "speaker similarity (cosine; higher is better)",
    "f0_cents": "pitch error, cents (RMS, all frames)",
}
_UNKNOWN_RIGHTS = (
    "The rights to the recordings were not stated when this voice was written. Before you share "
    "it, find out whether you may, and write it here."
)
_CONSENT = (
    "Use this voice only with the consent of the person it was made from, or of someone who may "
    "give it. Say of all speech that is made with it that it is synthetic, so that nobody takes it "
    "for a recording, and do not use it to deceive."
)
_LICENSE = re.compile(r"\blicen[cs]e", re.IGNORECASE)


class CardFile(NamedTuple):
    """A file of the voice."""

    name: str
    bytes: int
    sha256: str


def render_card(
    model: VoiceModel, files: Sequence[CardFile] = (), license_note: str = ""
) -> str:
    """Render the card of a voice.

    Args:
      model: Its facts have a name.
      files: The files that it is shared in; without them, their section is left out.
      license_note: The rights to the recordings.
    """
    kind = f"An RVC {model.version} voice" if model.is_rvc_compatible else "A voice of rvc_jax"
    parts = [
        f"# {_name(model)}",
        f"{kind} at {model.audio.sample_rate / 1000:g} kHz, written by rvc_jax {__version__}.",
        _table(("", ""), _list_origin(model)),
    ]
    if model.run is not None:
        parts.append(_render_holdout(model.run))
    if files:
        rows = [(file.name, str(file.bytes), f"`{file.sha256}`") for file in files]
        parts.append("## Files\n\n" + _table(("file", "bytes", "SHA-256"), rows))
    parts.append("## Use\n\n" + "\n".join(f"- {line}" for line in _list_uses(model, files)))
    parts.append(f"## Rights\n\n{_render_rights(model, license_note)}\n\n{_CONSENT}")
    return "\n\n".join(parts) + "\n"


def _name(model: VoiceModel) -> str:
    return _escape(model.facts.get("name") or "voice")


def _list_origin(model: VoiceModel) -> list[tuple[str, str]]:
    """What the voice was made of, and how it was trained."""
    facts = model.facts
    rows = []
    if facts.get("author"):
        rows.append(("author", str(facts["author"])))
    if model.run is not None:
        rows += _list_training(model.run)
    elif facts.get("dataset_length"):
        rows.append(("speech", f"{facts['dataset_length']} (hours, minutes, seconds)"))
    if facts.get("step"):
        epoch = f", epoch {facts['epoch']}" if facts.get("epoch") else ""
        rows.append(("this voice", f"of step {facts['step']}{epoch}"))
    encoder = f"{_name_encoder(model)}, {model.generator.content_channels} channels"
    if model.content_layer is not None:
        encoder += f", layer {model.content_layer}"
    if model.content_fingerprint:
        encoder += f" (SHA-256 {model.content_fingerprint[:16]}...)"
    rows.append(("content encoder", encoder))
    if model.run is not None:
        rows.append(("pitch method", model.run.dataset.f0_method))
        rows += _list_speakers(model.run.dataset)
    rows.append(("pitch guidance", "yes" if model.generator.has_pitch else "no"))
    return rows


def _name_encoder(model: VoiceModel) -> str:
    """The encoder's name; of a path the last part, since cards are shared."""
    encoder = model.content_encoder
    if is_known(encoder) or is_hub_name(encoder):
        return encoder
    return re.split(r"[\\/]", encoder.rstrip("\\/"))[-1]


def _list_training(run: RunFolder) -> list[tuple[str, str]]:
    data = run.dataset
    recipe = run.preset.train
    steps = max((line["step"] for line in run.history()), default=0)
    speech = f"{data.speech_minutes:.1f} minutes in {data.files} files"
    rows = [
        ("speech", f"{speech}, {len(data.speakers)} speaker(s)"),
        ("held out of the training", f"{data.holdout_seconds:.0f} s"),
        ("preset", run.preset.name),
        (
            "training",
            f"{steps} steps so far, {recipe.length} asked for, seed {recipe.seed}",
        ),
    ]
    return rows + [(f"{kind} started from", text) for kind, text in run.started_from.items()]


def _list_speakers(data: DatasetInfo) -> list[tuple[str, str]]:
    table = zip(data.speakers, data.speaker_minutes, data.speaker_median_f0, strict=True)
    return [
        (f"speaker {number}", f"{name}: {minutes:.1f} minutes, median pitch {f0:.0f} Hz")
        for number, (name, minutes, f0) in enumerate(table)
    ]


def _render_holdout(run: RunFolder) -> str:
    """Scores of the best voice beside those at the start, and a summary of the training."""
    history = run.history()
    best = best_evaluation(history)
    if best is None:
        return "## Hold-out\n\nNo speech was held out of the training: nothing was measured."
    first = get_evaluation_metrics(select_evaluations(history)[0])
    now = get_evaluation_metrics(best, best.get("best/which", "raw"))
    rows = [
        (_SCORES[name], f"{first[name]:.4g}" if name in first else "-", f"{now[name]:.4g}")
        for name in METRIC_NAMES
        if name in now
    ]
    paragraphs = [
        "## Hold-out",
        "Measured on speech that was held out of the training. "
        f"Best voice: step {best['step']}.",
        _table(("measure", "at the start", "best voice"), rows),
        *(_escape(sentence) for sentence in summary(history, run.preset.train)),
    ]
    return "\n\n".join(paragraphs)


def _list_uses(model: VoiceModel, files: Sequence[CardFile]) -> list[str]:
    """A line for every tool that can use the voice."""
    encoder = _name_encoder(model)
    name = to_stem(_name(model))
    kinds = {file.name.rpartition(".")[2] for file in files} or {"pth", "index", "zip"}
    pair = f"{name}.pth and {name}.index" if "index" in kinds else f"{name}.pth"
    archive = f"{name}.zip, or {pair}" if "zip" in kinds else pair
    lines = [
        "**rvc_jax**: `rvc-jax convert VOICE recording.wav converted.wav`; VOICE is the run or a "
        "file of it."
    ]
    if not model.is_rvc_compatible:
        lines.append(
            "Other RVC tools can't use it: they lack its content encoder or its sizes."
        )
    elif "pth" in kinds:
        lines.append(
            f"**Applio**, **Ultimate RVC**: upload {archive}; embedder model: {encoder}."
        )
        if encoder == "contentvec":
            lines.append(
                f"**RVC WebUI**: {name}.pth into assets/weights (or weights), an index into logs."
            )
            lines.append(f"**w-okada's voice changer**: an RVC slot with {pair}.")
    if "onnx" in kinds:
        lines.append(
            f"**ONNX**: {name}.onnx takes content features and pitch; its metadata describes both."
        )
    if any(file.name.startswith("G_") for file in files):
        lines.append(
            "**To train on** in RVC or Applio: the G_ and D_ files into the experiment's folder "
            "below logs."
        )
    return lines


def _render_rights(model: VoiceModel, license_note: str) -> str:
    """The recordings' license, as stated now or in the dataset."""
    stated = [license_note] if license_note else []
    if model.run is not None:
        stated += [note for note in model.run.dataset.notes if _LICENSE.search(note)]
    return "\n\n".join(map(_escape, stated)) if stated else _UNKNOWN_RIGHTS


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)


def _escape(text: Any) -> str:
    """Put text from outside on one line, without what Markdown or HTML would interpret."""
    text = make_printable(" ".join(str(text).split()))
    return re.sub(r"([\\|<>\[\]*])", r"\\\1", text)
