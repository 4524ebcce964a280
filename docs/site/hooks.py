"""What MkDocs does beyond its settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


_COMING = ("colab.md", "gcp.md")


def on_config(config: Any) -> None:
    """Pages that are still being written are passed over until they are there."""
    docs = Path(config.docs_dir)
    for section in config.nav:
        for title, pages in section.items():
            section[title] = [page for page in pages if not _is_absent(docs, page)]


def _is_absent(docs: Path, page: dict[str, str] | str) -> bool:
    name = page if isinstance(page, str) else next(iter(page.values()))
    return name in _COMING and not (docs / name).exists()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository that are no pages become their names."""
    return _OUTSIDE.sub(r"\1 (`\2` in the repository)", markdown)
