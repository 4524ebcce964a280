"""Tables of the documentation that a benchmark writes, between two comments of its own."""

from __future__ import annotations

from pathlib import Path

from rvc_jax.storage.files import atomic_write


def write_table(page: Path, begin: str, end: str, table: str) -> None:
    """Replace what a page has between two comments.

    Args:
      page: Markdown.
      begin: the first comment.
      end: the second one.
      table: lines of Markdown.
    """
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    with atomic_write(page) as file:
        file.write(f"{before}{begin}\n{table}\n{end}{after}".encode())
