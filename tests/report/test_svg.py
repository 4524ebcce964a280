"""Figures as SVG: part of the page, with no need of anything else."""

from __future__ import annotations

import re

from rvc_jax.report.svg import make_figure, to_svg


def draw(alternative: str) -> str:
    figure = make_figure(2.0)
    axes = figure.subplots()
    axes.plot([0, 1, 2], [1, 3, 2])
    axes.set_xlabel("steps")
    return to_svg(figure, alternative)


def test_a_chart_has_text_and_a_description() -> None:
    svg = draw('Loss "over" <steps>')
    assert svg.startswith("<svg viewBox=") and svg.endswith("</svg>")
    assert 'role="img" aria-label="Loss &quot;over&quot; &lt;steps&gt;"' in svg
    assert "<title>Loss &quot;over&quot; &lt;steps&gt;</title>" in svg
    assert ">steps</text>" in svg and len(svg) < 12_000


def test_a_chart_needs_nothing_else() -> None:
    svg = draw("a")
    assert not re.search(r"https?://|@import|<style|<script|<metadata", svg)
    references = re.findall(r'(?:href="|url\()([^")]*)', svg)
    assert references and all(reference.startswith("#") for reference in references)


def test_charts_are_the_same_in_every_run_and_share_no_ids() -> None:
    first, second = draw("first"), draw("second")
    assert draw("first") == first
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (first, second)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]


def test_text_that_is_not_valid_unicode_is_no_obstacle() -> None:
    assert "<svg" in draw("\udce4")
