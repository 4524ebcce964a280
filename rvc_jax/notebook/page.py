"""What a cell shows: sentences, a line that is updated, pages, sound."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, Literal

from IPython.display import HTML, Audio, display

from rvc_jax.errors import make_printable

_COLORS = {"plain": "inherit", "good": "#1b6e36", "notice": "#9a6b00", "problem": "#b3261e"}
Kind = Literal["plain", "good", "notice", "problem"]


def show_text(text: str, kind: Kind = "plain") -> None:
    """Show a sentence."""
    display(_Sentence(text, kind))


def frame(page: Path, height: int = 700) -> None:
    """Show one of our self-contained pages in a frame."""
    inside = html.escape(page.read_text(), quote=True)
    style = f"width:100%;height:{height}px;border:1px solid #ccc"
    display(
        _Markup(f'<div><iframe srcdoc="{inside}" style="{style}"></iframe></div>', f"[{page}]")
    )


def play(file: Path) -> None:
    """Show a player for a recording, which becomes part of the notebook."""
    display(Audio(filename=str(file)))


class Line:
    """A line that is updated in place."""

    def __init__(self) -> None:
        self._handle: Any = display(_Sentence("", "plain"), display_id=True)

    def show(self, text: str, share: float | None = None) -> None:
        """Replace the line; with the share that is done, 0 to 1, a bar precedes the text."""
        line = _Sentence(text, "plain", share)
        if self._handle is None:  # no notebook, as in tests
            display(line)
        else:
            self._handle.update(line)


class _Markup(HTML):
    """HTML, with a text for where HTML is not shown."""

    def __init__(self, markup: str, words: str):
        super().__init__(markup)
        self._words = words

    def __repr__(self) -> str:
        return self._words


class _Sentence(_Markup):
    def __init__(self, text: str, kind: Kind, share: float | None = None):
        text = make_printable(text)
        bar = (
            ""
            if share is None
            else f'<progress max="1" value="{share:.4f}" style="width:12em"></progress> '
        )
        super().__init__(
            f'<div style="color:{_COLORS[kind]};max-width:60em">{bar}{html.escape(text)}</div>',
            text,
        )
