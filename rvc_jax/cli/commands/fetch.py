"""`rvc-jax fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Fetching, Json

_Links = Annotated[
    Positional[tuple[str, ...]], tyro.conf.arg(metavar="URL [URL ...]", help_behavior_hint="")
]


def fetch(urls: _Links, out: Path, fetching: Fetching, as_json: Json = False) -> int:
    """Fetch the audio of links: videos, playlists, podcasts, plain files. Run it again to continue.

    Args:
        urls: Links to recordings, playlists, podcast feeds, or pages that contain recordings.
        out: Folder for the recordings. Each gets a .source.json beside it, and is not fetched again
            while that file is there.
    """
    from rvc_jax.data.fetch.fetch import fetch as run_fetch

    with Display() as display:
        result = run_fetch(urls, out, fetching, display)
    new = sum(file.new for file in result.files)
    there_before = len(result.files) - new
    rows = [
        ("folder", str(result.folder)),
        ("files", f"{len(result.files)} ({new} fetched, {there_before} there before)"),
        ("sound", f"{result.minutes:.1f} min"),
        *(("skipped", f"{skipped.name}: {skipped.reason}") for skipped in result.skipped),
    ]
    printed = {
        "minutes": result.minutes,
        "folder": out,
        "files": [
            {"path": file.path, "note": file.sidecar, "new": file.new} for file in result.files
        ],
        "skipped": result.skipped,
    }
    print_result(printed, rows, as_json)
    return 0
