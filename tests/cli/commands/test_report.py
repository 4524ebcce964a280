"""`rvc-jax report`: at any moment of a run, and for runs of older histories."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from rvc_jax.cli.main import main
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    (copy / "report.html").unlink()
    return copy


def pictures(page: str) -> list[str]:
    return re.findall(r'<svg [^>]*aria-label="([^"]*)"', page)


def test_the_page_has_curves_sound_and_figures(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"out": str(run / "report.html"), "outlook": [], "without_sound": ""}
    page = (run / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    names = pictures(page)
    assert names[-3:] == [
        "Log-mel error over the steps",
        "Metrics of the hold-out over the steps",
        "Terms of the losses over the steps",
    ]
    assert len(re.findall("audio/flac", page)) == len(names) - 3 >= 2
    last = [line for line in RunFolder.open(run).history() if "holdout/mel" in line][-1]
    assert (
        f"log-mel error {last['holdout/mel']:.3f}, STFT distance {last['holdout/stft']:.3f}"
        in page
    )


def test_while_a_run_trains(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a line of history, checkpoints that are being written, and no voice yet."""
    out = tmp_path / "page.html"
    with (run / "history.jsonl").open("a") as file:
        file.write('{"step": 99, "holdout/m')
    best = checkpoint.find_newest(run / "best")
    (run / "best" / f"{int(best.name) + 5}.orbax-checkpoint-tmp-7").mkdir()
    shutil.rmtree(run / "checkpoints")
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert (
        len(re.findall("audio/flac", out.read_text())) == 2
        and f"of step {best.name}" in out.read_text()
    )
    shutil.rmtree(run / "best")
    (run / "history.jsonl").unlink()
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert (
        len(re.findall("audio/flac", out.read_text())) == 1
        and len(pictures(out.read_text())) == 1
    )
    assert not (run / "report.html").exists()


def test_an_older_history_and_a_dataset_that_is_gone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"step": step, "holdout/mel": mel} for step, mel in ((0, 2.0), (9, 0.9), (18, 1.1))
    ]
    (run / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    config = json.loads((run / "config.json").read_text())
    gone = str(run / "gone")
    (run / "config.json").write_text(json.dumps(config | {"dataset_path": gone}))
    assert main(["report", str(run)]) == 0
    assert f"{gone} is not a dataset" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert pictures(page) == ["Log-mel error over the steps"] and "audio/flac" not in page
    assert "step 9: log-mel error 0.900" in page and "step 18: log-mel error 1.100" in page
    assert main(["report", str(run), "--dataset", gone]) == 2
    assert main(["report", str(run), "--out", str(run / "no" / "page.html")]) == 2
