"""Parts of the pages: sections, tables, sounds and pictures, all within one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
import soundfile

_STYLE = """
body {
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  color: #1f2933;
  background: #f5f7fa;
}
main { max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px }
section { padding: 1.1rem 1.4rem 1.3rem; margin: 1.2rem 0 }
h1 { font-size: 1.7rem; margin: 0 }
h2 { font-size: 1.15rem; margin: 0 0 .4rem }
h3 { font-size: 1rem; margin: 1.3rem 0 0 }
p { margin: .25rem 0 .6rem; max-width: 46rem }
p.lead, figcaption, .small { color: #52606d }
figure { margin: .6rem 0 0 }
figcaption { font-size: .9rem }
img, svg { width: 100%; height: auto; display: block }
audio { width: 100%; height: 2.3rem; margin: .35rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td { padding: .32rem .5rem; border-top: 1px solid #eef1f4; vertical-align: top }
td { overflow-wrap: anywhere }
tr:first-child td { border-top: 0 }
td:first-child { color: #52606d; width: min(18rem, 40%) }
pre { white-space: pre-wrap; font: .82rem/1.45 ui-monospace, monospace }
"""


def render_page(title: str, lead: str, sections: Sequence[str], style: str = "") -> bytes:
    """Return a whole page.

    Args:
      title: text.
      lead: HTML of the paragraph below the title.
      sections: HTML.
      style: CSS in addition to that of all pages.
    """
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}{style}</style></head>"
        f'<body><main><h1>{title}</h1><p class="lead">{lead}</p>{"".join(sections)}</main></body>'
        "</html>\n"
    ).encode("utf-8", "replace")


def render_section(title: str, content: str) -> str:
    """Return a section with a title (text) and content (HTML); nothing without content."""
    if not content:
        return ""
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of rows of text."""
    rendered = []
    for row in rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        rendered.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(rendered)}</table>"


def render_image(png: bytes, alternative: str, caption: str = "") -> str:
    """Return a PNG as a figure; `alternative` is for readers who cannot see it."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return render_figure(f'<img alt="{html.escape(alternative)}" src="{source}">', caption)


def render_figure(picture: str, caption: str = "") -> str:
    """Return a picture (HTML or SVG) with a caption (text)."""
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture}{text}</figure>"


def render_audio(wave: np.ndarray, rate: int) -> str:
    """Return a player for a wave [samples], which is stored as 16-bit FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    source = f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<audio controls preload="none" src="{source}"></audio>'
