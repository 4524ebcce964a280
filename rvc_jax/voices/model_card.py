"""The model card: what a voice was made of, how good it is, how it is used, and what it may be used
for. Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import make_printable
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation, evaluation_metrics, evaluations
from rvc_jax.runs.learning_curve import summary
from rvc_jax.version import __version__
from rvc_jax.voices.voice_source import VoiceSource

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
    "The rights to the recordings were not stated when this voice was written. Before you share it, find out whether "
    "you may, and write it here."
)
_CONSENT = (
    "Use this voice only with the consent of the person it was made from, or of whoever may give it. Say of everything "
    "spoken in it that the speech is synthetic, so that nobody takes it for a recording, and do not use it to deceive."
)


class CardFile(NamedTuple):
    """A file of the voice."""

    name: str
    bytes: int
    sha256: str


def card(source: VoiceSource, files: Sequence[CardFile] = (), license_note: str = "") -> str:
    """The card of a voice.

    files: those that it is shared in; without them their part is left out. license_note: what the
    rights to the recordings are.
    """
    model = source.model
    kind = f"An RVC {model.version} voice" if model.is_rvc_compatible else "A voice of rvc_jax"
    parts = [
        f"# {_plain(model.facts.get('name') or 'voice')}\n\n{kind} at {model.audio.sample_rate / 1000:g} kHz, "
        f"written by rvc_jax {__version__}.",
        _table(("", ""), _origin(source)),
    ]
    if source.run is not None:
        parts.append(_holdout(source.run))
    if files:
        parts.append("## Files\n\n" + _table(("file", "bytes", "SHA-256"), _file_rows(files)))
    parts.append("## Use\n\n" + "\n".join(f"- {line}" for line in _uses(source, files)))
    parts.append(f"## Rights\n\n{_rights(source, license_note)}\n\n{_CONSENT}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(source: VoiceSource) -> list[tuple[str, str]]:
    """What it is of, and how it was trained."""
    model = source.model
    facts = source.model.facts
    rows = [("author", facts["author"])] if facts.get("author") else []
    if source.run is not None:
        rows += _training(source.run)
    elif facts.get("dataset_length"):
        rows.append(("speech", f"{facts['dataset_length']} (hours, minutes, seconds)"))
    if facts.get("step"):
        epoch = f", epoch {facts['epoch']}" if facts.get("epoch") else ""
        rows.append(("this voice", f"of step {facts['step']}{epoch}"))
    print_ = (
        f" (SHA-256 {model.content_fingerprint[:16]}...)" if model.content_fingerprint else ""
    )
    rows.append(
        (
            "content encoder",
            f"{model.content_encoder}, {model.generator.content_channels} channels{print_}",
        )
    )
    if source.run is not None:
        rows.append(("pitch method", source.run.dataset.f0_method))
        rows += _speakers(source.run.dataset)
    rows.append(("pitch guidance", "yes" if model.generator.has_pitch else "no"))
    return rows


def _training(run: RunFolder) -> list[tuple[str, str]]:
    data = run.dataset
    recipe = run.preset.train
    steps = max((line["step"] for line in run.history()), default=0)
    rows = [
        (
            "speech",
            f"{data.speech_minutes:.1f} minutes in {data.files} files, {len(data.speakers)} speaker(s)",
        ),
        ("held out of the training", f"{data.holdout_seconds:.0f} s"),
        ("preset", run.preset.name),
        (
            "training",
            f"{steps} steps so far, {recipe.epochs} epochs asked for, seed {recipe.seed}",
        ),
    ]
    return rows + [(f"{kind} started from", text) for kind, text in run.started_from.items()]


def _speakers(data: DatasetInfo) -> list[tuple[str, str]]:
    table = zip(data.speakers, data.speaker_minutes, data.speaker_median_f0, strict=True)
    return [
        (f"speaker {number}", f"{name}: {minutes:.1f} minutes, median pitch {f0:.0f} Hz")
        for number, (name, minutes, f0) in enumerate(table)
    ]


def _holdout(run: RunFolder) -> str:
    """Scores of the best voice, beside those at the start, and what the course of the training
    tells."""
    history = run.history()
    best = best_evaluation(history)
    if best is None:
        return "## Hold-out\n\nNo speech was held out of the training: nothing was measured."
    first = evaluation_metrics(evaluations(history)[0])
    now = evaluation_metrics(best, best.get("best/which", "raw"))
    rows = [
        (_SCORES[name], f"{first[name]:.4g}" if name in first else "-", f"{now[name]:.4g}")
        for name in METRIC_NAMES
        if name in now
    ]
    text = f"## Hold-out\n\nMeasured on speech that was held out of the training. Best voice: step {best['step']}.\n\n"
    text += _table(("measure", "at the start", "best voice"), rows)
    return text + "".join(
        f"\n\n{_plain(sentence)}" for sentence in summary(history, run.preset.train)
    )


def _file_rows(files: Sequence[CardFile]) -> list[tuple[str, str, str]]:
    return [(file.name, str(file.bytes), f"`{file.sha256}`") for file in files]


def _uses(source: VoiceSource, files: Sequence[CardFile]) -> list[str]:
    """A line for every tool that can use the voice."""
    encoder = source.model.content_encoder
    name = _plain(source.model.facts.get("name") or "voice")
    there = (
        {file.name.rpartition(".")[2] for file in files} if files else {"pth", "index", "zip"}
    )
    pair = f"{name}.pth and {name}.index" if "index" in there else f"{name}.pth"
    archive = f"{name}.zip, or {pair}" if "zip" in there else pair
    lines = [
        "**rvc_jax**: `rvc-jax convert VOICE recording.wav spoken.wav`; VOICE is the run or a file of it."
    ]
    if not source.model.is_rvc_compatible:
        lines.append(
            "Other tools of the RVC world can't use it: they lack its content encoder or its sizes."
        )
    elif "pth" in there:
        lines.append(
            f"**Applio**, **Ultimate RVC**: upload {archive}; embedder model: {encoder}."
        )
        if encoder == "contentvec":
            lines.append(
                f"**RVC WebUI**: {name}.pth into assets/weights (or weights), an index into logs."
            )
            lines.append(f"**w-okada's voice changer**: an RVC slot with {pair}.")
    if "onnx" in there:
        lines.append(
            f"**ONNX**: {name}.onnx speaks content features and pitch; its metadata tells of both."
        )
    if any(file.name.startswith("G_") for file in files):
        lines.append(
            "**To train on** in RVC or Applio: the G_ and D_ files into the experiment's folder below logs."
        )
    return lines


def _rights(source: VoiceSource, license_note: str) -> str:
    """What was said of the recordings' licence, now or in the dataset."""
    notes = source.run.dataset.notes if source.run is not None else ()
    told = [note for note in notes if re.search(r"\blicen[cs]e", note, re.IGNORECASE)]
    said = ([license_note] if license_note else []) + told
    return "\n\n".join(map(_plain, said)) if said else _UNKNOWN_RIGHTS


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _plain(text: Any) -> str:
    """Text from outside in one line, without what Markdown or HTML would take for its own."""
    text = make_printable(" ".join(str(text).split()))
    return re.sub(r"([\\|<>\[\]*])", r"\\\1", text)
