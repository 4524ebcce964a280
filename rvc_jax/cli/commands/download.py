"""`rvc-jax download`: public weights, ahead of their first use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, Preset
from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes

Names = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help_behavior_hint="")
]
List = Annotated[bool, tyro.conf.arg(name="list")]


def download(
    names: Names = (), all_for: Preset = None, list_all: List = False, as_json: Json = False
) -> int:
    """Download public weights ahead of time, or list them. What is there is verified and kept.

    RVC_JAX_HOME names the cache folder, RVC_JAX_MIRROR another server; RVC_JAX_OFFLINE=1 forbids
    the network.

    Args:
        names: Names of `--list`, or OWNER/NAME on the Hugging Face hub.
        all_for: Everything that preparing for a preset and training it needs.
        list_all: Show what can be downloaded: size, licence, what it is, and where it lies if it is
            here.
    """
    from rvc_jax.weights.registry import names_for

    if list_all:
        entries = _listed()
        print_result(entries, [(entry["name"], _line(entry)) for entry in entries], as_json)
        return 0
    if not names and all_for is None:
        raise UserError(
            "nothing to download: give names (`rvc-jax download --list` shows them) or --all-for PRESET"
        )
    wanted = dict.fromkeys((*names, *(names_for(PRESETS[all_for]) if all_for else ())))
    with Display() as display:
        paths = _fetch(list(wanted), display)
    rows = [(name, str(path)) for name, path in paths.items()]
    print_result(
        paths,
        rows or [(str(all_for), "needs no download: its weights come with the package")],
        as_json,
    )
    return 0


def _fetch(names: list[str], display: Display) -> dict[str, Path]:
    """Where the weights of these names lie; what is not here is downloaded, and the display shows
    it."""
    from rvc_jax.weights import store

    for name in names:
        if "/" not in name:
            store.entry(name)  # a slip of the pen is told before anything is fetched
    paths = {}
    for name in names:

        def progress(file: str, done: int, total: int | None) -> None:
            text = (
                f"{format_bytes(done)} of {format_bytes(total)}"
                if total
                else format_bytes(done)
            )
            display.update(f"{name} {file}", done if total else 0, total or 1, text)  # noqa: B023 called at once

        paths[name] = (
            store.hub_model(name, progress) if "/" in name else store.path(name, progress)
        )
    return paths


def _listed() -> list[dict[str, Any]]:
    from rvc_jax.weights import store
    from rvc_jax.weights.registry import ENTRIES

    return [
        {
            "name": entry.name,
            "bytes": entry.size,
            "licence": entry.licence,
            "what": entry.what,
            "path": store.find(entry.name),
            "sha256": {file.path: file.sha256 for file in entry.files},
        }
        for entry in ENTRIES.values()
    ]


def _line(entry: dict[str, Any]) -> str:
    count = "?" if entry["bytes"] is None else format_bytes(entry["bytes"])
    here = f" [{entry['path']}]" if entry["path"] else ""
    return f"{count:>8}  {entry['licence']:<10}  {entry['what']}{here}"
