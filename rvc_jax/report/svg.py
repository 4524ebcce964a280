"""Matplotlib's figures as inline SVG: sharp at any size, with text that stays text."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#52606d"
GRID = "#e4e7eb"
BLUE = "#1f6feb"
PALE_BLUE = "#c3d5f5"
ORANGE = "#d9730d"
GRAY = "#9aa5b1"

WIDTH = 7.6
"""Width of every chart in inches of 72 units; a page scales it to its column."""


def make_figure(height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure, `height` inches high, without pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout=layout)  # pyright: ignore[reportArgumentType]


def to_svg(figure: Figure, alternative: str) -> str:
    """Return a figure as an `<svg>` element that needs nothing but the page it is in.

    Args:
      figure: what to draw.
      alternative: what the chart shows, for readers who cannot see it.
    """
    import matplotlib

    for axes in figure.axes:
        _style(axes)
    settings: Any = {
        "svg.fonttype": "none",  # text, not outlines
        # Ids must differ between the charts of a page, and be the same in every run.
        "svg.hashsalt": ascii(alternative),
        "font.sans-serif": ["DejaVu Sans"],
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(settings):
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    return _embed(buffer.getvalue(), alternative)


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=8, length=3, width=0.6, color=MUTED, labelcolor=MUTED)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=8.5, color=MUTED)
    axes.title.set(size=8.5, color=INK)


def _embed(document: str, alternative: str) -> str:
    """Turn matplotlib's SVG document into an element of an HTML page."""
    head, content = re.split(r"(?<=>)", document[document.index("<svg") :], maxsplit=1)
    (view_box,) = re.findall(r'viewBox="[^"]*"', head)
    # The style sheet would apply to the whole page. Its one property moves to the element.
    content = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>", "", content, count=1, flags=re.DOTALL
    )
    # Names of groups such as "axes_1" would occur once per chart; only targets of references stay.
    targets = set(re.findall(r'#([\w.-]+)[")]', content))
    content = re.sub(
        r' id="([^"]*)"', lambda found: found[0] if found[1] in targets else "", content
    )
    content = content.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    content = re.sub(r'base64,[^"]*', lambda found: re.sub(r"\s", "", found[0]), content)
    content = re.sub(r"\s+", " ", content).replace("> <", "><").strip()
    label = html.escape(alternative)
    return (
        f'<svg {view_box} role="img" aria-label="{label}" width="100%" stroke-linejoin="round">'
        f"<title>{label}</title>{content}"
    )
