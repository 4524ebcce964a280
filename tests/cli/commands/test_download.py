"""`rvc-jax download`: what it fetches, what it lists, and the one line it gives for a mistake."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rvc_jax.cli import main as cli
from rvc_jax.cli.commands.download import download
from rvc_jax.config import PRESETS
from rvc_jax.weights import store
from rvc_jax.weights.registry import ENTRIES, WeightsEntry, WeightsFile, names_for


@pytest.fixture(autouse=True)
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a mirror; everything that `40k` needs lies there, a few bytes long and
    registered so."""
    folder = tmp_path / "mirror"
    for name in names_for(PRESETS["40k"]):
        files = []
        for file in ENTRIES[name].files:
            place = folder / file.urls[0].removeprefix("https://huggingface.co/")
            place.parent.mkdir(parents=True, exist_ok=True)
            content = f"{name}'s {file.path}".encode() * 1000
            place.write_bytes(content)
            sha256 = file.sha256 and hashlib.sha256(content).hexdigest()
            files.append(WeightsFile(file.path, file.urls, sha256, sha256 and len(content)))
        monkeypatch.setitem(
            store.ENTRIES, name, WeightsEntry(name, tuple(files), "MIT", "small")
        )
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("RVC_JAX_MIRROR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RVC_JAX_OFFLINE", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "download", download)
    yield folder
    server.shutdown()
    server.server_close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["download", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "rmvpe")
    place = tmp_path / "home/weights/rmvpe.pt"
    assert (code, out) == (0, f"rmvpe  {place}\n") and place.is_file()
    assert "rmvpe rmvpe.pt 100%" in err
    assert run(capsys, "rmvpe") == (0, out, "")


def test_everything_for_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "rmvpe", "--all-for", "40k", "--json")
    home = tmp_path / "home/weights"
    assert code == 0
    assert json.loads(out) == {
        "rmvpe": str(home / "rmvpe.pt"),
        "contentvec": str(home / "contentvec"),
        "f0G40k": str(home / "pretrained_v2/f0G40k.pth"),
        "f0D40k": str(home / "pretrained_v2/f0D40k.pth"),
    }
    assert (home / "contentvec/pytorch_model.bin").is_file() and (
        home / "contentvec/config.json"
    ).is_file()


def test_a_preset_that_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--all-for", "nano") == (
        0,
        "nano  needs no download: its weights come with the package\n",
        "",
    )
    assert run(capsys, "--all-for", "nano", "--json") == (0, "{}\n", "")


def test_a_model_of_the_hub(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mirror / "owner/name/resolve/main"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "pytorch_model.bin").write_bytes(b"weights")
    code, out, _ = run(capsys, "owner/name")
    assert (code, out) == (0, f"owner/name  {tmp_path}/home/weights/hub/owner/name\n")


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "rmvpe")
    code, out, err = run(capsys, "--list")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert (code, err) == (0, "") and set(lines) == set(ENTRIES)
    assert lines["rmvpe"].endswith(f"small [{tmp_path}/home/weights/rmvpe.pt]")
    assert "484 MB  MIT         content: Whisper small" in lines["whisper-small"]
    assert "?  unknown     content: " in lines["spin"]
    code, out, _ = run(capsys, "--list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert (
        set(entries) == set(ENTRIES)
        and entries["rmvpe"]["path"]
        and entries["f0G48k"]["path"] is None
    )
    assert entries["f0G48k"]["sha256"] == {
        "pretrained_v2/f0G48k.pth": ENTRIES["f0G48k"].files[0].sha256
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to download"),
        ("nonsense", "no weights are known as 'nonsense'"),
        ("owner/../name", "is not the name of a model on the Hugging Face hub"),
        ("spin", "config.json could not be downloaded"),
        ("rmvpe nonsense", "no weights are known as 'nonsense'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments.split())
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    assert last.startswith("rvc-jax: error: ") and message in last


def test_a_wrong_file_is_told_and_removed(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mirror / "lj1995/VoiceConversionWebUI/resolve/main/rmvpe.pt"
    place.write_bytes(place.read_bytes()[::-1])
    code, _, err = run(capsys, "rmvpe")
    assert code == 2 and "refused and removed" in err.splitlines()[-1]
    assert not [
        path for path in (tmp_path / "home/weights").iterdir() if path.suffix != ".lock"
    ]


def test_nothing_is_fetched_before_all_names_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "rmvpe", "nonsense")[0] == 2
    assert not (tmp_path / "home" / "weights").exists()


def test_the_command_line_is_not_slowed_down() -> None:
    code = "import sys; from rvc_jax.cli.commands.download import download; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"jax", "numpy", "urllib.request", "rvc_jax.weights.store"} & set(
        done.stdout.split()
    )
