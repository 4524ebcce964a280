"""The command line: quick help, one line for every mistake, JSON that is nothing but JSON."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rvc_jax.audio.reading import decode
from rvc_jax.cli.main import COMMANDS, main
from rvc_jax.cli.options import read_field_help
from rvc_jax.config import ConvertConfig, FetchConfig, PrepareConfig, TrainConfig, option
from rvc_jax.runs.folder import RunFolder

HEAVY = (
    "jax",
    "flax",
    "tensorflow",
    "tensorflow_datasets",
    "librosa",
    "scipy",
    "matplotlib",
    "orbax",
    "av",
    "numpy",
)


def test_help_is_quick_and_names_every_command() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "rvc_jax", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - began)
    assert all(f"{command} " in done.stdout for command in COMMANDS)
    assert min(seconds) < 1.0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from rvc_jax.cli.main import main; main(['train', '--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--epochs" in done.stdout
    assert not set(HEAVY) & set(done.stderr.split())


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    for config in (FetchConfig, PrepareConfig, TrainConfig, ConvertConfig):
        assert set(read_field_help(config)) == {
            field.name for field in dataclasses.fields(config)
        }
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "the first limit ends the run. (default: 200; nano: 50; small: 100)" in text
    for name in read_field_help(TrainConfig):
        assert f"{option(name)} " in text


@pytest.mark.parametrize(
    "arguments", [["sing"], ["train"], ["convert", "a", "b", "c", "--protect", "much"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_mistake_gets_one_line_from_the_program_itself(
    tmp_path: Path, other_clip: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "rvc_jax",
        "convert",
        str(tmp_path),
        str(other_clip),
        str(tmp_path / "out.wav"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"rvc-jax: error: {tmp_path} holds neither a run nor a voice: it has no config.json, "
        "no voice.json and no .pth\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train {tmp}/gone --run {tmp}/run", "is not a dataset"),
        ("train {run} --run {tmp}/run", "is not a dataset"),
        ("train {dataset} --run {dataset}", "is not empty"),
        ("train {dataset} --run {tmp}/run --preset 40k", "--preset 40k"),
        ("evaluate {dataset}", "is not a run"),
        ("evaluate {run} --dataset {run}", "is not a dataset"),
        ("prepare {tmp}/gone --out {tmp}/dataset", "does not exist"),
        ("prepare {tmp} --out {tmp}/dataset", "holds no recordings"),
        ("info {tmp}/gone", "does not exist"),
        ("info {tmp}", "is neither a dataset nor a run"),
        ("convert {run} {tmp}/gone.wav {tmp}/out.xyz", "cannot write .xyz"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: str,
    message: str,
    tiny_run: Path,
    sample_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = arguments.format(tmp=tmp_path, run=tiny_run, dataset=sample_dataset).split()
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("rvc-jax: error: ") and message in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_and_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails_with(error: BaseException) -> tuple[int, str]:
        def describe(path: Path, *options: object) -> dict:
            raise error

        monkeypatch.setattr("rvc_jax.cli.describe.describe", describe)
        return main(["info", "anything"]), capsys.readouterr().err

    assert fails_with(KeyboardInterrupt()) == (130, "rvc-jax: error: interrupted\n")
    full = OSError(errno.ENOSPC, "No space left on device", "metrics/events")
    advice = "free some space and run the same command again"
    assert fails_with(full) == (2, f"rvc-jax: error: disk full: metrics/events; {advice}\n")
    wrapped = ValueError(
        "RESOURCE_EXHAUSTED: Failed to write 627938 bytes to file 8: No space left on device [28]"
    )
    for other in (wrapped, OSError("3214080 requested and 100288 written")):
        assert fails_with(other) == (
            2,
            f"rvc-jax: error: disk full: a file could not be written; {advice}\n",
        )
    with pytest.raises(OSError, match="odd"):
        fails_with(OSError(errno.EIO, "odd"))


def test_convert_and_evaluate_print_pure_json(
    tiny_run: Path, other_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.wav"
    arguments = [
        "convert",
        str(tiny_run),
        str(other_clip),
        str(out),
        "--auto-transpose",
        "--index-rate",
        "0",
        "--json",
    ]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["samples"] == decode(out)[0].shape[1] == 113600
    assert 9 <= printed["transpose"] <= 14

    assert main(["evaluate", str(tiny_run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    scores = [
        record["holdout/mel"]
        for record in RunFolder.open(tiny_run).history()
        if "holdout/mel" in record
    ]
    assert printed["holdout_mel"] == pytest.approx(min(scores), rel=1e-3)
    assert printed["same_speech_as_in_training"] is True


def test_prepare_tells_what_was_dropped(
    sample_voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    (folder / "good.flac").write_bytes((sample_voice / "ivr-concentrate.flac").read_bytes())
    (folder / "text.wav").write_text("this is no sound")
    assert (
        main(["prepare", str(folder), "--out", str(tmp_path / "dataset"), "--preset", "nano"])
        == 0
    )
    output = capsys.readouterr()
    assert "text.wav: not audio" in output.out and "1 read, 1 skipped" in output.out
    assert "analyzing 100%" in output.err and "analyzing" not in output.out


def test_train_takes_only_what_was_given_and_writes_a_report(tiny_run: Path) -> None:
    recipe = RunFolder.open(tiny_run).preset.train
    assert (recipe.epochs, recipe.evaluate_every, recipe.log_every) == (4, 2, 1)
    assert recipe.learning_rate == RunFolder.open(tiny_run).preset.train.learning_rate
    assert (tiny_run / "report.html").stat().st_size > 50000


def test_training_again_continues(
    tiny_run: Path, sample_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    assert main(["train", str(sample_dataset), "--run", str(run), "--json"]) == 0
    output = capsys.readouterr()
    printed = json.loads(output.out)
    assert printed["resumed_from"] == printed["steps"] > 0
    assert printed["steps_per_second"] is None and printed["interrupted"] is False
