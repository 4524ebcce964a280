"""What MkDocs does beyond its settings."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces links to files of the repository that are not pages by their names."""
    return _OUTSIDE.sub(r"\1 (`\2` in the repository)", markdown)
