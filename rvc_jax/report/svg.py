"""Small charts as inline SVG: a few kilobytes each, sharp at any size."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH = 760
_LEFT = 56
_RIGHT = 40
_TOP = 18
_BOTTOM = 40
_BLUE = "#1f6feb"
_PALE = "#c3d5f5"
_INK = "#52606d"
_GRID = "#e4e7eb"

Tick = tuple[float, str]
"""A place on an axis and its label."""


class Curve(NamedTuple):
    name: str
    y: Sequence[float]
    colour: str


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    ticks: Sequence[Tick],
    title: str,
    axis: str,
    highlighted: tuple[float, float] | None = None,
    height: int = 190,
) -> str:
    """Bars of counts [n] between edges [n + 1].

    title: what it shows, for those who cannot see it. highlighted: a range of the axis; the bars
    outside it are pale.
    """
    left = edges[0]
    right = edges[-1]
    bottom = height - _BOTTOM
    tallest = max([*counts, 1])
    parts = [
        _x_axis(ticks, left, right, axis, height),
        _label(_LEFT - 6, _TOP + 4, _short(tallest), "end"),
    ]
    parts.append(_line(_LEFT, _TOP, _WIDTH - _RIGHT, _TOP))
    for begin, end, count in zip(edges, edges[1:], counts, strict=False):
        low = _x(begin, left, right)
        high = _x(end, left, right)
        tall = (bottom - _TOP) * count / tallest
        middle = (begin + end) / 2
        inside = highlighted is None or highlighted[0] <= middle <= highlighted[1]
        if count:
            parts.append(
                f'<rect x="{low + 0.5:.1f}" y="{bottom - tall:.1f}" width="{max(high - low - 1, 0.5):.1f}" '
                f'height="{tall:.1f}" fill="{_BLUE if inside else _PALE}"/>'
            )
    return _svg("".join(parts), height, title)


def curves(
    x: Sequence[float],
    lines: Sequence[Curve],
    x_ticks: Sequence[Tick],
    y_ticks: Sequence[Tick],
    title: str,
    axis: str,
    mark: Tick | None = None,
    height: int = 240,
) -> str:
    """Curves over x [n], cut off at the lowest and highest tick of y; `mark` is a labelled vertical
    line.

    Their names stand above the picture and the mark's label at its top, where spectra leave room.
    """
    left = x[0]
    right = x[-1]
    low = y_ticks[0][0]
    high = y_ticks[-1][0]
    bottom = height - _BOTTOM

    def up(value: float) -> float:
        return bottom - (bottom - _TOP) * (min(max(value, low), high) - low) / (high - low)

    parts = [_x_axis(x_ticks, left, right, axis, height)]
    for value, label in y_ticks:
        parts += [
            _line(_LEFT, up(value), _WIDTH - _RIGHT, up(value)),
            _label(_LEFT - 6, up(value) + 4, label, "end"),
        ]
    name_end = _WIDTH - _RIGHT
    for name, y, colour in reversed(lines):
        points = " ".join(
            f"{_x(a, left, right):.1f},{up(b):.1f}" for a, b in zip(x, y, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        parts.append(_label(name_end, _TOP - 6, name, "end", colour))
        name_end -= 9 * len(name) + 10
    if mark is not None:
        place = _x(min(max(mark[0], left), right), left, right)
        before = place > _WIDTH / 2
        parts.append(_line(place, _TOP, place, bottom, _INK, ' stroke-dasharray="4 3"'))
        parts.append(
            _label(
                place + (-5 if before else 5), _TOP + 14, mark[1], "end" if before else "start"
            )
        )
    return _svg("".join(parts), height, title)


def _short(count: float) -> str:
    """A number of at most seven characters: more have no room beside the axis."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:g}"


def _x(value: float, left: float, right: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - left) / (right - left)


def _x_axis(ticks: Sequence[Tick], left: float, right: float, axis: str, height: int) -> str:
    bottom = height - _BOTTOM
    parts = [_line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, _INK)]
    for value, label in ticks:
        if left <= value <= right:
            place = _x(value, left, right)
            parts += [
                _line(place, bottom, place, bottom + 4, _INK),
                _label(place, bottom + 17, label, "middle"),
            ]
    parts.append(_label((_LEFT + _WIDTH - _RIGHT) / 2, height - 5, axis, "middle"))
    return "".join(parts)


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str = _GRID, extra: str = ""
) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{extra}/>'


def _label(x: float, y: float, text: str, anchor: str, colour: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'


def _svg(content: str, height: int, title: str) -> str:
    title = html.escape(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}" width="100%" '
        f'font-family="system-ui, sans-serif" font-size="12.5"><title>{title}</title>{content}</svg>'
    )
