"""How this copy of the program was installed, for messages that advise to install more."""

from __future__ import annotations

import functools
import json
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
"""The folder of the package; in a checkout, that of pyproject.toml."""


@functools.cache
def install_command(extra: str) -> str:
    """Return the command that installs an extra: for a checkout, a file or an address, or by name.

    Args:
        extra: A name under `optional-dependencies` in pyproject.toml.
    """
    if (_ROOT / "pyproject.toml").is_file():
        place = "." if Path.cwd() == _ROOT else str(_ROOT)
        return f'pip install -e "{place}[{extra}]"'
    url = _find_source()
    return f'pip install "rvc_jax[{extra}]{f" @ {url}" if url else ""}"'


def _find_source() -> str | None:
    """Return where pip got the package, by PEP 610; None for an index, or if it is not known."""
    import importlib.metadata  # the command line starts without it

    try:
        text = importlib.metadata.distribution("rvc_jax").read_text("direct_url.json")
        record = json.loads(text or "{}")
        url = record.get("url")
        version_control = record.get("vcs_info", {}).get("vcs")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return f"{version_control}+{url}" if url and version_control else url
