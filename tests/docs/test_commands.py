"""Every command of the documentation is understood by the program that it is for, and most of them
are carried out."""

from __future__ import annotations

import argparse
import functools
import os
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Command, all_commands, prose

from rvc_jax.cli import main as cli
from rvc_jax.config import PRESETS
from rvc_jax.infer import files as files_module
from rvc_jax.runs import checkpoint
from rvc_jax.voices import export as exports
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import store

COMMANDS = all_commands()
OURS = [command for command in COMMANDS if command.words[0] == "rvc-jax"]
SCRIPTS = [
    command
    for command in COMMANDS
    if command.words[0].startswith("python") and command.words[1] != "-m"
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
OTHERS = {"--user", "--network", "--host", "--build-arg", "--manual_dir"}
"""Options in the text that are those of Docker and others; those of our scripts are looked for in
the scripts."""

NOT_CARRIED_OUT = {
    r"^rvc-jax quickstart": "takes minutes: .ci/run",
    r"^rvc-jax plan": "compiles for half an hour: tests/plan/test_compile.py",
    r"^rvc-jax download": "the network; test_what_is_downloaded_is_known has the names",
    r"^rvc-jax serve": "runs until it is stopped: tests/infer/server/test_server.py",
    r"gs://": "a cloud: tests/integration/test_run_elsewhere.py has an emulated one",
    r"--coordinator": "several machines: tests/train/test_distributed.py",
    r"public_speech.toml": "the network: tests/data/test_recipes.py",
    r"--separate-vocals": "a model of another package: tests/audio/test_source_separation.py",
    r"^rvc-jax train": "tests/conftest.py makes the run by it; "
    "tests/integration/test_rollbacks.py has budgets",
    r"^rvc-jax report": "tests/cli/commands/test_report.py",
    r"^rvc-jax evaluate --source": "tests/metrics/test_conversion.py",
    r"export (run|RUN)$|RUN --license-note": "all forms, one after the other: "
    "tests/voices/test_export.py",
    r"--ratio-decoder": "tests/voices/test_merge.py",
    r"convert run - -": "standard input: tests/cli/commands/test_convert.py",
}
"""Why a command is only parsed; the tests that are named carry it out in another form."""

PLACES = {
    "RUN": "run",
    "DATASET": "dataset",
    "SPEECH": "speech",
    "RECORDING": "song.mp3",
    "OUT": "out.wav",
    "A": "run",
    "B": "ada.pth",
    "S.wav": "song.mp3",
    "C.wav": "converted.flac",
    "SPEAKER": "speech",
    "voice.pth": "ada.pth",
    "other.index": "ada.index",
    "voice.index": "ada.index",
    "40k": "nano",
    "small": "nano",
}
"""What stands in for names of the pages, where they are read from."""


SMALLER = {
    "prepare": ["--preset", "nano"],
    "fetch": ["--allow-private-addresses"],
}
"""What is added to a command to keep it small, and without the network."""


class UnderstoodError(Exception):
    """A script's arguments were accepted."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the commands that the parser called; they do nothing."""
    called: list[str] = []

    def stand_in(name, function):
        @functools.wraps(function)
        def record(*arguments, **options) -> int:
            called.append(name)
            return 0

        return record

    stubs = {name: stand_in(name, function) for name, function in cli.COMMANDS.items()}
    monkeypatch.setattr(cli, "COMMANDS", stubs)
    return called


def test_the_pages_are_read() -> None:
    """Every line that looks like one of our commands is among those that are tried."""
    known = {command.words[:2] for command in COMMANDS}
    lines = [
        tuple(line.split()[:2])
        for page in PAGES
        for line in page.read_text().splitlines()
        if re.match(r" {4}(rvc-jax|python3?) ", line)
    ]
    assert len(lines) >= 70 and set(lines) <= known
    assert len(OURS) >= 55


@pytest.mark.parametrize("command", OURS, ids=str)
def test_our_command_is_understood(command: Command, calls: list[str]) -> None:
    assert cli.main(list(command.words[1:])) == 0, f"{command.page}: {command}"
    assert [name.rstrip("_") for name in calls] == [command.words[1]]


def test_a_command_with_a_mistake_is_not_understood(
    calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["convert", "run", "a.wav", "b.wav", "--transposed", "3"],
        ["converts", "run"],
        ["export"],
    ):
        assert cli.main(words) == 2
    assert calls == []


def reason(command: Command) -> str | None:
    return next(
        (why for pattern, why in NOT_CARRIED_OUT.items() if re.search(pattern, str(command))),
        None,
    )


def test_reasons_are_used_and_the_tests_that_they_name_are_there() -> None:
    used = {reason(command) for command in OURS}
    for why in NOT_CARRIED_OUT.values():
        assert why in used
        for name in re.findall(r"(?:tests|\.ci)/\S+?(?:\.py|run)\b", why):
            assert (ROOT / name).is_file(), name


@pytest.fixture
def here(made: Path, warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of one command: links to what there is. Its voices pass for such that run
    elsewhere."""
    for entry in made.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_module, "load_converter", warm)
    monkeypatch.setattr(VoiceModel, "is_rvc_compatible", True)
    monkeypatch.setattr(
        exports, "rvc_discriminator", lambda model: PRESETS["nano"].discriminator
    )
    return tmp_path


def small(command: Command) -> tuple[str, ...]:
    """The command's arguments with what is here in the place of what the page names."""
    arguments = [PLACES.get(word, word) for word in command.words[1:]]
    return (
        *arguments,
        *(word for word in SMALLER.get(arguments[0], []) if word not in arguments),
    )


@pytest.mark.parametrize(
    "arguments",
    dict.fromkeys(small(command) for command in OURS if reason(command) is None),
    ids=shlex.join,
)
def test_our_command_does_its_work(arguments: tuple[str, ...], here: Path, server) -> None:
    step = str(checkpoint.list_steps(here / "run" / "checkpoints")[-1])
    stands_for = {"https://...": f"{server.url}/talk.flac", "12000": step}
    words = [stands_for.get(word, word) for word in arguments]
    if "--out" in words:
        (here / words[words.index("--out") + 1]).unlink(missing_ok=True)
    assert cli.main(words) == 0


def test_what_is_downloaded_is_known() -> None:
    for command in OURS:
        if command.words[1] == "download":
            assert [
                store.entry(word).name
                for word in command.words[2:]
                if word[0] != "-" and word not in PRESETS
            ] or ("--all-for" in command.words)


@pytest.mark.parametrize("command", SCRIPTS, ids=str)
def test_a_script_s_options_are_understood(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *arguments) -> None:
        parse(parser, *arguments)
        raise UnderstoodError

    script = ROOT / command.words[1]
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", list(command.words[1:]))
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    try:
        with pytest.raises(UnderstoodError):
            runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")


def test_extras_and_markers_that_are_named_exist() -> None:
    for command in COMMANDS:
        if "pip" in command.words[:3]:
            assert command.words[-1] == "." or _extras(command.words[-1]), str(command)
        if "pytest" in command.words[:3] and "-m" in command.words[3:]:
            marker = command.words[command.words.index("-m", 3) + 1]
            assert marker in (ROOT / "pyproject.toml").read_text().split("markers")[1]
    for page in PAGES:
        for extras in re.findall(r"(?:rvc_jax|\.)(\[[a-z,]+\])", page.read_text()):
            assert _extras(extras), f"{page.name}: {extras}"
        for extra in re.findall(r"\(extra `(\w+)`\)", page.read_text()):
            assert extra in EXTRAS, f"{page.name}: {extra}"


def test_programs_of_launch_are_there() -> None:
    for page in PAGES:
        for name in re.findall(r"^ {4}(?:bash )?(launch/\S+)", page.read_text(), re.MULTILINE):
            assert os.access(ROOT / name, os.X_OK), f"{page.name}: {name}"
    for command in COMMANDS:
        if command.words[:2] == ("docker", "build"):
            assert (ROOT / command.words[command.words.index("-f") + 1]).is_file(), str(command)


def test_every_extra_is_explained() -> None:
    table = (ROOT / "docs" / "index.md").read_text().split("## Extras")[1]
    assert set(
        re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| `.*?\|", table, re.MULTILINE)))
    ) == set(EXTRAS)


def _extras(requirement: str) -> bool:
    found = re.fullmatch(r"(?:rvc_jax|\.)?\[([a-z,]+)\]", requirement)
    return found is not None and all(extra in EXTRAS for extra in found[1].split(","))


def test_commands_and_options_in_the_text_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options: dict[str, set[str]] = {}
    for name in cli.COMMANDS:
        cli.main([name.rstrip("_"), "--help"])
        options[name.rstrip("_")] = set(
            re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out)
        )
    every = set().union(*options.values())
    scripts = [
        path
        for folder in ("launch", "tests/benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]
    others = OTHERS.union(
        *(
            re.findall(r"--[a-z][a-z0-9-]*", path.read_text(errors="replace"))
            for path in scripts
        )
    )
    wrong = []
    for page in PAGES:
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page.read_text())):
            words = code.split()
            named = {
                word.split("=")[0] for word in words if word.startswith("--") and len(word) > 2
            }
            if words[:1] == ["rvc-jax"] and len(words) > 1:
                allowed = options.get(
                    words[1],
                    set() if words[1] not in ("...", "--version") else every | {"--version"},
                )
            elif words and words[0].startswith("--"):
                allowed = every | others
            else:
                continue
            if not named <= allowed or (words[0] == "rvc-jax" and not allowed):
                wrong.append((page.name, code))
    assert wrong == []
