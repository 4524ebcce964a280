"""Names of files and folders that mean something else to a shell, a terminal, another system, or
the eye."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import hostile_audio
import numpy as np
import pytest
import soundfile

from rvc_jax.cli.describe import describe
from rvc_jax.cli.main import main
from rvc_jax.config import PrepareConfig
from rvc_jax.data.dataset import DatasetInfo, iterate, load_dataset, read_info
from rvc_jax.data.prepare import prepare
from rvc_jax.data.recipes import read_recipe
from rvc_jax.data.sources import find_sources
from rvc_jax.errors import UserError

pty = pytest.importorskip("pty")

NAMES = [
    b"a\\b",
    b"a\\..\\..\\up",
    b"%2e%2e%2fup",
    b"C:\\a",
    b"\\\\server\\a",
    b"$(touch fuzzed)",
    b"`touch fuzzed`",
    b"a;touch fuzzed",
    b"a|b",
    b"a>b",
    b"a'b\"c",
    b"*",
    b"a?",
    b"~",
    b"~root",
    b"$HOME",
    b" ",
    b" before",
    b"behind ",
    b"dot.",
    b"dots...",
    b"-",
    b"--overwrite",
    b"-rf",
    b"@file",
    b"#a",
    b"a\nb",
    b"a\r\nb",
    b"a\tb",
    b"\1\2",
    b"a\x7f",
    b"\x1b[41mred",
    b"\x1b]0;title\7",
    b"\x1b[2J\x1b[H",
    b"\xc2\x9b41m",
    b"\b\b\b",
    b"\xe2\x80\xaevaw.exe",
    b"\xe2\x81\xa6isolated",
    b"\xe2\x80\xa8line",
    b"\xef\xbb\xbfmark",
    b"zero\xe2\x80\x8bwidth",
    b"caf\xe9",
    b"caf\xe8",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xaf..\xc0\xaf",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"CAF\xc3\x89",
    b"same",
    b"SAME",
    b"Same",
    b"\xc4\xb0i",
    b"\xc3\x9fss",
    b"\xc5\xbf",
    b"CON",
    b"con.txt",
    b"NUL",
    b"LPT1",
    b"AUX.flac",
    b"[/]",
    b"[red]",
    b"[link=a]",
    b":warning:",
    b"{task}",
    b"{0}",
    b"%s%n",
    b"concat:a|b",
    b"file:a",
    b"http:a",
    b"pipe:0",
    b"a[0.0-1.0]",
    b"a (2)",
    b"metadata.json",
    b"x" * 230,
    b"a" + b"\xcc\x81" * 100,
    "日　本".encode(),
    "🎤".encode(),
]
"""Names of files, without their extension."""

FOLDERS = [
    b"caf\xe9",
    b"caf\xe8",
    b"\x1b[41mred",
    b"a\nb",
    b"\xe2\x80\xaegnp",
    b"same",
    b"SAME",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"-rf",
    b" ",
    b"x" * 255,
    b"CON",
    b"[/]",
    b"a\\..\\..",
]
"""Names of speakers' folders."""

NANO = PrepareConfig(preset="nano")


def write_recording(path: bytes, number: int) -> bool:
    """Write half a second of speech, different for every number.

    Returns False if the system cannot have a file of that name.
    """
    wave = hostile_audio.speech()[8000:16000] * (1 - number / 200)
    place = Path(os.fsdecode(path))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            soundfile.write(file, wave, hostile_audio.RATE, format="WAV")
    except OSError as error:
        # macOS and Windows have no such name, or take it for another one.
        if error.errno in (errno.EILSEQ, errno.EINVAL, errno.EEXIST):
            return False
        raise
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all names, and folders of all names with a file in each."""
    made = tmp_path_factory.mktemp("names") / "speech"
    names = [name + b".wav" for name in NAMES] + [name + b"/1.wav" for name in FOLDERS]
    written = [
        write_recording(os.fsencode(made) + b"/" + name, number)
        for number, name in enumerate(names)
    ]
    assert sum(written) > 60
    return made


@pytest.fixture(scope="module")
def before(folder: Path) -> set[Path]:
    return set(folder.parent.rglob("*"))


@pytest.fixture(scope="module")
def printed(folder: Path, before: set[Path]) -> str:
    """What the command prints that makes the dataset `out` beside the folder."""
    out = folder.parent / "out"
    return command(
        "prepare", folder, "--out", out, "--cache", folder.parent / "cache", "--preset", "nano"
    )


@pytest.fixture(scope="module")
def info(folder: Path, printed: str) -> DatasetInfo:
    return read_info(folder.parent / "out")


def command(*arguments: str | Path, code: int = 0) -> str:
    """Run a command and return what it prints."""
    with (
        io.StringIO() as text,
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        assert main([str(argument) for argument in arguments]) == code, text.getvalue()[-2000:]
        return text.getvalue()


def steers(text: str) -> set[str]:
    """Return the characters that move the cursor, color or hide text, or turn its direction."""
    return {
        c
        for c in text
        if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    }


def files_below(folder: Path) -> list[str]:
    return [f"{place}/{file}" for place, _, files in os.walk(folder) for file in files]


def test_every_file_gives_its_record(folder: Path, info: DatasetInfo) -> None:
    assert info.files == len(files_below(folder)) and not info.dropped
    records = [
        *iterate(folder.parent / "out", "train"),
        *iterate(folder.parent / "out", "holdout"),
    ]
    names = [record["source"] for record in records]
    assert len(names) == len(set(names)) == info.files
    assert {"same.wav", "SAME.wav", "CON.wav", "日　本.wav", "[/].wav"} <= set(names)
    assert all(
        np.isfinite(record[part]).all()
        for record in records
        for part in ("wave", "content", "f0")
    )
    assert {info.speakers[record["speaker"]] for record in records} == set(info.speakers)


def test_nothing_was_run_and_nothing_left_its_place(
    folder: Path, before: set[Path], printed: str
) -> None:
    made = {"out", "cache", "terminal"}
    assert {path for path in folder.parent.rglob("*") if not made & set(path.parts)} == before


def test_names_in_the_info_are_printable(info: DatasetInfo) -> None:
    assert not steers(json.dumps(info.to_dict(), ensure_ascii=False))


def test_names_in_the_records_are_printable(folder: Path) -> None:
    cuts = find_sources(folder).cuts
    assert not steers("".join(cut.name + cut.speaker for cut in cuts))
    assert len({cut.name for cut in cuts}) == len(cuts)


def test_every_folder_is_a_speaker(folder: Path) -> None:
    speakers = sum(path.is_dir() for path in folder.iterdir())
    assert len(find_sources(folder).speakers) == 1 + speakers


def test_what_is_printed_does_not_steer_the_terminal(folder: Path, printed: str) -> None:
    out = folder.parent / "out"
    for text in (
        printed,
        command("inspect", out),
        command("inspect", out, "--json"),
        command("info", out),
    ):
        assert not steers(text)


def test_names_on_a_terminal(folder: Path, printed: str) -> None:
    """With bars, whose library has a markup language for colors and links."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=lambda: shown.extend(read_all(ours)))
    reader.start()
    command = [
        sys.executable,
        "-m",
        "rvc_jax",
        "prepare",
        "speech",
        "--out",
        "terminal",
        "--cache",
        "cache",
    ]
    # `-m` looks for modules in the current folder, where ours need not be.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TERM": "xterm",
    }
    options = {
        "cwd": folder.parent,
        "env": environment,
        "stdout": subprocess.DEVNULL,
        "timeout": 300,
    }
    done = subprocess.run([*command, "--preset", "nano"], stderr=theirs, **options)
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert done.returncode == 0 and "analyzing" in text
    for unwanted in (
        "Traceback",
        "MarkupError",
        "\x1b[41m",
        "\x1b]0;",
        "\x1b[H",
        "\x9b",
        "\u202e",
        "\b",
    ):
        assert unwanted not in text


def read_all(descriptor: int) -> list[bytes]:
    blocks = []
    while True:
        try:
            block = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            return blocks
        if not block:
            return blocks
        blocks.append(block)


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    """A sidecar's name would be too long."""
    write_recording(os.fsencode(tmp_path / "speech" / ("x" * 251 + ".wav")), 0)
    (cut,) = find_sources(tmp_path / "speech").cuts
    assert cut.name == "x" * 251 + ".wav"
    (cut,) = find_sources(cut.path).cuts
    assert cut.speaker == "x" * 251


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 300, id="long"),
        pytest.param("x/" * 3000, id="deep"),
        "gone\x1b[41m\n",
        "caf\udce9",
        "\u202egnp",
        "-",
        "file:gone",
    ],
)
@pytest.mark.parametrize("command", ["prepare", "info"])
def test_names_of_missing_files(tmp_path: Path, command: str, name: str) -> None:
    with pytest.raises(UserError, match="does not exist|cannot be|too long") as caught:
        describe(tmp_path / name) if command == "info" else find_sources(tmp_path / name)
    assert name[:20] in str(caught.value)


def test_a_name_in_an_error_does_not_steer_the_terminal(tmp_path: Path) -> None:
    assert not steers(command("info", tmp_path / "gone\x1b[41m\u202e", code=2))


def test_names_in_json(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9\u202e.wav"
    write_recording(os.fsencode(path), 0)
    command = [sys.executable, "-m", "rvc_jax", "info", str(path), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(path) and not steers(done.stdout.decode())


@pytest.mark.parametrize(
    "name",
    ["[1]*?", "a\nb", "-rf", " ", "{a,b}", "%s", "\x1b[41m", "$(touch fuzzed)", "CON", "dot."],
)
def test_names_of_datasets(folder: Path, printed: str, tmp_path: Path, name: str) -> None:
    info = prepare(short_clip(tmp_path), tmp_path / name, NANO, cache=folder.parent / "cache")
    assert load_dataset(tmp_path / name).info == info
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.wav"])


def test_a_dataset_whose_name_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        prepare(short_clip(tmp_path), tmp_path / "caf\udce9", NANO, cache=tmp_path / "cache")
    assert {path.name for path in tmp_path.iterdir()} <= {"a.wav", "cache"}


def short_clip(folder: Path) -> Path:
    write_recording(os.fsencode(folder / "a.wav"), 0)
    return folder / "a.wav"


# Files that a recipe names


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """In a folder with `in.wav`; beside the folder there is `secret.wav`."""
    made = tmp_path / "recipe"
    (made / "sub").mkdir(parents=True)
    (tmp_path / "secret.wav").touch()
    (made / "in.wav").touch()
    (made / "out.wav").symlink_to("../secret.wav")
    (made / "up").symlink_to("..")
    (made / "loop.wav").symlink_to("loop.wav")
    (made / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(made / "pipe.wav")
    return made / "recipe.toml"


OUTSIDE = [
    "../secret.wav",
    "sub/../../secret.wav",
    "./../secret.wav",
    "..",
    "../",
    "out.wav",
    "up/secret.wav",
    "up",
    "in.wav/../..",
    "zero.wav",
]
NOT_THERE = [
    "..\\secret.wav",
    "C:\\secret.wav",
    "\\\\server\\a.wav",
    "~/secret.wav",
    "%2e%2e/secret.wav",
    "file:///etc/passwd",
    "http://127.0.0.1:9/a.wav",
    "$(touch fuzzed)",
    "-rf",
    "*.wav",
    "CON",
    "sub",
    ".",
    "pipe.wav",
    "in.wav/in.wav",
    "/dev/zero",
    "/dev/tty",
]
NOT_TO_BE_LOOKED_UP = ["loop.wav", "x" * 300, "x/" * 3000]
NO_NAMES = [
    "",
    " ",
    "in.wav\0",
    "in.wav\n",
    "\x1b[2J.wav",
    "\u202evaw.exe",
    "a\x9b.wav",
    "\ufeffin.wav",
]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (OUTSIDE, "is outside of"),
        (NOT_THERE, "is not a file|is not there"),
        (NOT_TO_BE_LOOKED_UP, "cannot be looked up|is not there"),
        (NO_NAMES, "must be a text"),
    ],
    ids=["outside", "not there", "not to be looked up", "no names"],
)
def test_files_of_recipes(recipe: Path, names: list[str], reason: str) -> None:
    for name in names:
        recipe.write_text(f"[[source]]\nfile = {json.dumps(name)}\n")
        with pytest.raises(UserError, match=reason) as caught:
            read_recipe(recipe)
        assert str(caught.value).startswith(f"{recipe}: source 1, file: ")
        assert str(caught.value).isprintable()
    assert not (recipe.parent / "fuzzed").exists()
