"""`rvc-jax fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json
from rvc_jax.config import FetchConfig

_Links = Annotated[
    Positional[tuple[str, ...]], tyro.conf.arg(metavar="URL [URL ...]", help_behavior_hint="")
]


def fetch(urls: _Links, out: Path, fetching: FetchConfig, as_json: Json = False) -> int:
    """Fetch recordings from links, sound only: videos, playlists, podcasts, plain files. Run it
    again to continue.

    Args:
        urls: Links to recordings, playlists, podcast feeds, or pages with recordings in them.
        out: Folder for the recordings; each gets a .source.json beside it, and what has one is not
            fetched again.
    """
    from rvc_jax.data.fetch.fetch import fetch as run_fetch

    with Display() as display:
        result = run_fetch(urls, out, fetching, display)
    new = sum(file.new for file in result.files)
    rows = [
        ("folder", str(result.folder)),
        (
            "files",
            f"{len(result.files)} ({new} fetched, {len(result.files) - new} there before)",
        ),
        ("sound", f"{result.minutes:.1f} min"),
        *(("skipped", f"{skipped.name}: {skipped.reason}") for skipped in result.skipped),
    ]
    print_result(
        {
            "minutes": result.minutes,
            "folder": out,
            "files": [
                {"path": file.path, "note": file.sidecar, "new": file.new}
                for file in result.files
            ],
            "skipped": result.skipped,
        },
        rows,
        as_json,
    )
    return 0
