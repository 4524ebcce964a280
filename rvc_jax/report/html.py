"""Building blocks of the pages: sections, tables, sounds and pictures, all inside one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
import soundfile

_STYLE = """
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1f2933; background: #f5f7fa }
main { max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem }
section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px; padding: 1.1rem 1.4rem 1.3rem }
section { margin: 1.2rem 0 } h1 { font-size: 1.7rem; margin: 0 }
h2 { font-size: 1.15rem; margin: 0 0 .4rem } h3 { font-size: 1rem; margin: 1.3rem 0 0 }
p { margin: .25rem 0 .6rem; max-width: 46rem } p.lead, figcaption, .small { color: #52606d }
figure { margin: .6rem 0 0 } figcaption { font-size: .9rem } img { width: 100%; height: auto; display: block }
audio { width: 100%; height: 2.3rem; margin: .35rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td { padding: .32rem .5rem; border-top: 1px solid #eef1f4; vertical-align: top } tr:first-child td { border-top: 0 }
td { overflow-wrap: anywhere } td:first-child { color: #52606d; width: min(18rem, 40%) }
pre { white-space: pre-wrap; font: .82rem/1.45 ui-monospace, monospace }
"""


def page(title: str, lead: str, sections: Sequence[str], style: str = "") -> bytes:
    """A whole page; `lead` and the sections are HTML, the title is text, `style` is CSS besides the
    common one."""
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}{style}</style></head>'
        f'<body><main><h1>{title}</h1><p class="lead">{lead}</p>{"".join(sections)}</main></body></html>\n'
    ).encode("utf-8", "replace")


def section(title: str, content: str) -> str:
    """Nothing if there is no content (HTML)."""
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>" if content else ""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text."""
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def image(png: bytes, alternative: str, caption: str = "") -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return figure(f'<img alt="{html.escape(alternative)}" src="{source}">', caption)


def figure(picture: str, caption: str = "") -> str:
    """A picture (HTML or SVG) with a caption (text)."""
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture}{text}</figure>"


def audio(wave: np.ndarray, rate: int) -> str:
    """A player of a wave [samples], as 16-bit FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    source = f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<audio controls preload="none" src="{source}"></audio>'
