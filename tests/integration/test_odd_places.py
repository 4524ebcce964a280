"""Read-only folders, missing ones, files in the place of folders and dangling links: every command
answers with one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_runs import make_run
from read_only import read_only

from rvc_jax.cli.main import COMMANDS, main

WRITING = {
    "fetch": "http://127.0.0.1:9/a.mp3 --allow-private-addresses --out {out}",
    "prepare": "{speech} --preset nano --out {out}",
    "audit": "{dataset} --out {out}.html",
    "train": "{dataset} --run {out}",
    "convert": "{run} {speech}/a.flac {out}.wav",
    "report": "{run} --out {out}.html",
    "index": "{run} --out {out}.npy",
    "export": "{run} --format safetensors --out {out}",
    "merge": "{run} {run} --out {out}.pth",
    "extract": "{run} --out {out}.pth",
    "card": "{run} --out {out}.md",
    "import": "{voice} --out {out}",
}
"""What writes where the user says, by command."""

READING = {
    "train": "{dataset} --run {run}",
    "convert": "{run} {source} {tmp}/written.wav",
    "evaluate": "{run}",
    "report": "{run}",
    "status": "{run}",
    "watch": "{run}",
    "index": "{run} --out {tmp}/written.npy",
    "export": "{run}",
    "merge": "{run} {run} --out {tmp}/written.pth",
    "extract": "{run} --out {tmp}/written.pth",
    "card": "{run}",
    "info": "{run}",
    "prepare": "{source} --preset nano --out {tmp}/written",
    "audit": "{dataset} --out {tmp}/written.html",
    "import": "{source} --out {tmp}/written",
}
"""What reads a run, a dataset or a recording, by command."""

ELSEWHERE = {"quickstart", "plan", "serve", "download", "doctor", "bug-report"}
"""Commands that neither read nor write what the user names, or work without an end."""


@pytest.fixture(scope="module")
def things(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, its dataset, a voice and a recording."""
    folder = tmp_path_factory.mktemp("things")
    (folder / "speech").mkdir()
    for number, name in enumerate("a"):
        source = sorted(Path("data/sample/voice").glob("*.flac"))[number]
        shutil.copy(source, folder / "speech" / f"{name}.flac")
    run = make_run(folder / "run", encoder="whisper-tiny")
    assert main(["extract", str(run.path), "--out", str(folder / "voice.safetensors")]) == 0
    return {
        "run": run.path,
        "dataset": sample_dataset,
        "voice": folder / "voice.safetensors",
        "speech": folder / "speech",
        "source": folder / "speech" / "a.flac",
    }


def refuse(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that can't do what it is asked for; return the line that it prints."""
    capsys.readouterr()
    assert main([command, *text.split()]) == 2, text
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("rvc-jax: error: ")]
    assert len(lines) == 1 and "Traceback" not in error and error.endswith(f"{lines[0]}\n")
    return lines[0]


def test_every_command_is_here() -> None:
    assert set(COMMANDS) - ELSEWHERE <= set(WRITING) | set(READING)


@pytest.mark.parametrize("command", WRITING)
def test_places_that_cannot_be_written_to(
    command: str,
    things: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if command == "fetch":
        monkeypatch.delenv("RVC_JAX_OFFLINE", raising=False)
    (tmp_path / "file").write_text("kept")
    ending = WRITING[command].partition("{out}")[2]
    (tmp_path / f"link{ending}").symlink_to(tmp_path / "nowhere" / "deep")
    (tmp_path / f"taken{ending}").mkdir()
    (tmp_path / f"taken{ending}" / "file").write_text("kept")
    (tmp_path / "closed").mkdir()
    for place in ("file/below", "closed/new"):
        with read_only(tmp_path / "closed"):
            line = refuse(
                command,
                WRITING[command].format(out=tmp_path / place, **things),
                capsys,
            )
        assert place.partition("/")[0] in line
    makes_folder = not ending
    if command not in ("fetch", "export"):  # these add to what is there
        refuse(command, WRITING[command].format(out=tmp_path / "taken", **things), capsys)
    if makes_folder:
        refuse(command, WRITING[command].format(out=tmp_path / "file", **things), capsys)
        refuse(command, WRITING[command].format(out=tmp_path / "link", **things), capsys)
    else:
        missing = tmp_path / "missing" / "new"
        refuse(command, WRITING[command].format(out=missing, **things), capsys)
    assert (tmp_path / "file").read_text() == "kept" and not list(
        (tmp_path / "closed").iterdir()
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"file", f"link{ending}", f"taken{ending}", "closed"}


@pytest.mark.parametrize("command", READING)
def test_places_that_cannot_be_read(
    command: str, things: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    for what in ("run", "dataset", "source"):
        if f"{{{what}}}" not in READING[command]:
            continue
        for odd in ("file", "file/below", "link", "loop", "empty", "nowhere"):
            if (command, what) == ("train", "run") and odd in ("empty", "nowhere"):
                continue  # it makes a new one there
            places = things | {what: tmp_path / odd, "tmp": tmp_path}
            refuse(command, READING[command].format(**places), capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "loop", "empty"}


@pytest.mark.parametrize("command", ["train", "report", "export", "card", "status", "info"])
def test_a_run_that_cannot_be_written_to(
    command: str, things: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = READING[command].format(**things)
    with read_only(things["run"]):
        if command in ("train", "report", "export"):
            assert "Read-only file system" in refuse(command, text, capsys)
        else:
            assert main([command, *text.split()]) == 0
    assert not list(things["run"].glob(".*"))


def test_a_run_whose_dataset_is_gone(
    things: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refuse("evaluate", str(things["run"]), capsys)
    assert "--dataset" in line
