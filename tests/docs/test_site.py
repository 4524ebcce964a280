"""The documentation as a site: it builds without a warning, and has what the pages have."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import plan_table
import pytest
from pages import PAGES, ROOT, prose

import rvc_jax

DOCS = ROOT / "docs"
SETTINGS = DOCS / "site" / "mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(SETTINGS),
        "-d",
        str(folder),
    ]
    # not --quiet: with it, warnings are no errors
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def content(site: Path, page: Path) -> str:
    """The HTML of a page, without what is around it."""
    file = site / ("index.html" if page.stem == "index" else f"{page.stem}/index.html")
    return re.search(r"<article.*?</article>", file.read_text(), re.DOTALL)[0]


WRITTEN = [page for page in PAGES if page.parent == DOCS and "\n::: " not in page.read_text()]
"""The pages of docs/ but for the one that is generated from docstrings."""


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_tables_code_and_lists_arrive(site: Path, page: Path) -> None:
    """What Markdown readers differ about: tables after comments, code within lists, lists after a
    line of text."""
    written = page.read_text()
    built = content(site, page)
    assert built.count("<table>") == len(re.findall(r"^\|(?:-+\|)+$", written, re.MULTILINE))
    bare = re.sub(r"<(pre|code)\b.*?</\1>", "", built, flags=re.DOTALL)
    assert "```" not in bare and not re.search(r"^\s*\|", bare, re.MULTILINE)
    points = len(re.findall(r"^(?:- |\d+\. )", prose(written), re.MULTILINE))
    assert built.count("<li>") == points
    for block in re.findall(
        r"^ {4}((?:rvc-jax|python3?|pip) .*?)(?:\s+#.*)?$", written, re.MULTILINE
    ):
        assert html.escape(block, quote=False) in re.sub(r"<[^>]+>", "", built), block


def test_the_site_asks_no_other_server(site: Path) -> None:
    for page in PAGES[1:]:
        text = content(site, page)
        assert not re.findall(r'src="(?:https?:)?//', text)
    head = (site / "index.html").read_text().split("</head>")[0]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', head)


def test_links_of_the_readme_lead_somewhere() -> None:
    for name, anchor in re.findall(
        r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", (ROOT / "README.md").read_text()
    ):
        assert (ROOT / name).exists(), name
        if anchor:
            titles = re.findall(r"^#+ (.+)$", (ROOT / name).read_text(), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
            }, anchor


@pytest.mark.parametrize("page", plan_table.PAGES, ids=lambda page: page.stem)
def test_tables_of_time_and_cost_are_those_of_the_plan(page: Path) -> None:
    results = json.loads((DOCS / "plan.json").read_text())
    table = plan_table.table(results, *plan_table.PAGES[page])
    assert f"{plan_table.BEGIN}\n{table}\n{plan_table.END}" in page.read_text()
    assert "estimate" in page.read_text() and len(table.splitlines()) >= 3


def test_the_api_page_describes_the_public_names(site: Path) -> None:
    built = content(site, DOCS / "api.md")
    for name in rvc_jax.__all__:
        if not name.startswith("__"):
            assert f"rvc_jax.{name}" in built, name
