"""`rvc-jax download`: public weights, ahead of their first use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, Preset
from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes

_Names = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="NAME", help_behavior_hint=""),
]
_List = Annotated[bool, tyro.conf.arg(name="list", help_behavior_hint="")]


def download(
    names: _Names = (), all_for: Preset = None, list_all: _List = False, as_json: Json = False
) -> int:
    """Download public weights ahead of time, or list them. Files that are already here are verified
    and kept.

    RVC_JAX_HOME sets the cache folder, RVC_JAX_MIRROR another server; RVC_JAX_OFFLINE=1 forbids all
    network access.

    Args:
        names: Names from `--list`, or OWNER/NAME on the Hugging Face hub.
        all_for: Download everything needed to prepare for this preset and to train it.
        list_all: List all known weights: size, license, purpose, and the path of those that are
            here.
    """
    from rvc_jax.weights.registry import names_for

    if list_all:
        entries = _list_entries()
        print_result(entries, [(entry["name"], _line(entry)) for entry in entries], as_json)
        return 0
    if not names and all_for is None:
        raise UserError(
            "nothing to download: give names (`rvc-jax download --list` shows them) "
            "or --all-for PRESET"
        )
    needed = names_for(PRESETS[all_for]) if all_for else ()
    with Display() as display:
        paths = _fetch(list(dict.fromkeys((*names, *needed))), display)
    rows = [(name, str(path)) for name, path in paths.items()]
    if not rows:
        rows = [(str(all_for), "needs no download: its weights come with the package")]
    print_result(paths, rows, as_json)
    return 0


def _fetch(names: list[str], display: Display) -> dict[str, Path]:
    """Return where the weights are, by name; download those that are missing."""
    from rvc_jax.weights import store

    for name in names:
        if "/" not in name:
            store.entry(name)  # reports a mistyped name before anything is downloaded
    return {name: _fetch_one(name, display) for name in names}


def _fetch_one(name: str, display: Display) -> Path:
    from rvc_jax.weights import store

    reporter = _DownloadReporter(name, display)
    return store.hub_model(name, reporter) if "/" in name else store.path(name, reporter)


class _DownloadReporter:
    """Shows every file of a download as a stage of its own, with its bytes."""

    def __init__(self, name: str, display: Display):
        self._name = name
        self._display = display

    def message(self, text: str) -> None:
        self._display.message(text)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Show progress in bytes; `text` is the name of the file."""
        size = format_bytes(done)
        if total:
            size += f" of {format_bytes(total)}"
        self._display.progress(f"{self._name} {text}", done, total, size)


def _list_entries() -> list[dict[str, Any]]:
    from rvc_jax.weights import store
    from rvc_jax.weights.registry import ENTRIES

    return [
        {
            "name": entry.name,
            "bytes": entry.size,
            "licence": entry.license,
            "what": entry.what,
            "path": store.find(entry.name),
            "sha256": {file.path: file.sha256 for file in entry.files},
        }
        for entry in ENTRIES.values()
    ]


def _line(entry: dict[str, Any]) -> str:
    size = "?" if entry["bytes"] is None else format_bytes(entry["bytes"])
    here = f" [{entry['path']}]" if entry["path"] else ""
    is_verified = all(entry["sha256"].values())
    doubt = "" if is_verified else " (not verified: no hash is known in advance)"
    return f"{size:>8}  {entry['licence']:<10}  {entry['what']}{doubt}{here}"
