"""Reads texts, lines and bars from the charts of the pages."""

from __future__ import annotations

import re
from typing import NamedTuple


class Label(NamedTuple):
    """A text, in a width that letters of 0.6 times their size have."""

    left: float
    right: float
    baseline: float
    text: str


def size(svg: str) -> tuple[float, float]:
    """Width and height."""
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    return float(width), float(height)


def labels(svg: str) -> list[Label]:
    """Every text that is not rotated."""
    found = []
    for attributes, text in re.findall(r"<text ([^>]*)>([^<]*)</text>", svg):
        values = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        style = dict(each.strip().split(": ") for each in values["style"].split(";"))
        width = 0.6 * float(style["font-size"].removesuffix("px")) * len(text)
        share = {"start": 0, "middle": 0.5, "end": 1}[style.get("text-anchor", "start")]
        left = float(values["x"]) - width * share
        found.append(Label(left, left + width, float(values["y"]), text))
    return found


def paths(svg: str, paint: str) -> list[list[tuple[float, float]]]:
    """Corners of every path with a style such as `fill: #1f6feb`."""
    found = []
    for data, style in re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg):
        if paint in style:
            points = re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", data)
            found.append([(float(x), float(y)) for x, y in points])
    return found
