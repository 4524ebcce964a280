"""Builds rvc_jax.ipynb from source.py, a notebook in jupytext's percent format.

python launch/colab/build.py
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

SOURCE = Path(__file__).with_name("source.py")
NOTEBOOK = SOURCE.with_name("rvc_jax.ipynb")


def build() -> str:
    """The text of the notebook file, without outputs. Equal sources give equal files."""
    notebook = jupytext.reads(SOURCE.read_text(), fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {"cellView": "form"} if cell.cell_type == "code" else {}
    notebook.metadata = {
        "accelerator": "TPU",
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat = 4
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(build())
