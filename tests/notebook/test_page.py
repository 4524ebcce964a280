"""What cells show."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rvc_jax.notebook import page


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    shown: list[Any] = []
    monkeypatch.setattr(page, "display", lambda item, **options: shown.append(item))
    return shown


def test_text_from_outside_is_no_markup(displayed: list[Any]) -> None:
    page.show_text("<script>alert(1)</script>\x1b[2J", "notice")
    assert "<script>" not in displayed[0].data and "&lt;script&gt;" in displayed[0].data
    assert (
        "\x1b" not in displayed[0].data
        and repr(displayed[0]) == "<script>alert(1)</script>?[2J"
    )


def test_a_line_has_a_bar(displayed: list[Any]) -> None:
    page.Line().show("half", 0.5)
    assert 'value="0.5000"' in displayed[-1].data and "half" in displayed[-1].data


def test_a_page_comes_whole_in_its_frame(displayed: list[Any], tmp_path: Path) -> None:
    written = '<p title="a & b">é</p>'
    (tmp_path / "page.html").write_text(written)
    page.frame(tmp_path / "page.html")
    assert html.unescape(re.search('srcdoc="([^"]*)"', displayed[0].data)[1]) == written


def test_a_player_has_the_sound(displayed: list[Any], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "sound.wav", np.zeros(800), 16000)
    page.play(tmp_path / "sound.wav")
    assert (
        "audio/x-wav;base64," in displayed[0]._repr_html_()
        or "audio/wav;base64," in displayed[0]._repr_html_()
    )
