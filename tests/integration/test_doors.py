"""Every command with the runs, datasets, caches, voices and recipes of somebody else.

Nothing is contacted, imported, started or written that the command line does not name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import make_run

from rvc_jax.cli.main import COMMANDS
from rvc_jax.data.sources import find_bundled_sample

WALK = Path(__file__).parents[1] / "helpers" / "walk.py"
ADDRESSES = (
    "http://127.0.0.1:9/dataset",
    "https://example.org/dataset",
    "ftp://example.org/dataset",
    "simplecache::http://example.org/dataset",
    "zip://a::http://example.org/a.zip",
    "github://owner:repository@main/dataset",
    "sftp://example.org/dataset",
    "hf://datasets/owner/name",
    "webhdfs://example.org/dataset",
    "gs://somebody/dataset",
    "s3://somebody/dataset",
    "abfs://a@b.example.org/dataset",
    "file:///etc",
    "gs://somebody/::http://example.org/",
    "GS://somebody/dataset",
)
"""What the dataset of a run may be according to its config.json."""


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text())
    for name, value in values.items():
        *above, last = name.split("__")
        place = content
        for key in above:
            place = place[key]
        place[last] = value
    file.write_text(json.dumps(content))


def make_world(root: Path, dataset: Path) -> list[tuple[str, list[str]]]:
    """Make what somebody else may have made below a folder; returns command lines for it."""
    run = make_run(root / "run").path
    runs = []
    for number, address in enumerate(ADDRESSES):
        copy = root / f"run{number}"
        shutil.copytree(run, copy)
        change(copy / "config.json", dataset_path=address)
        runs.append(copy)
    hub = shutil.copytree(run, root / "hub")
    change(hub / "config.json", dataset__content_encoder="somebody/encoder")
    large = shutil.copytree(run, root / "large")
    change(large / "config.json", preset__generator__attention_layers=10**6)
    damaged = shutil.copytree(run, root / "damaged")
    (damaged / "history.jsonl").write_bytes(b'{"step": 1}\n\0\xff\n{}\n[[[\n"x"\n')
    (damaged / "heartbeat.json").write_text('{"state": 5, "losses": []}')
    np.save(damaged / "index.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (damaged / "best" / "10" / "sha256.json").write_text("{}")
    (root / "evil.py").write_text("class Text: pass\n")
    evil = shutil.copytree(dataset, root / "evil")
    text = (evil / "features.json").read_text()
    (evil / "features.json").write_text(
        text.replace("tensorflow_datasets.core.features.text_feature.Text", "evil.Text")
    )
    venv = shutil.copytree(dataset, root / "venv_dataset")
    (venv / "features.json").write_text(
        text.replace(
            "tensorflow_datasets.core.features.text_feature.Text", "venv.__main__.Text"
        )
    )
    speech = root / "speech"
    speech.mkdir()
    for name in ("a.wav", "b.wav.source.json", "c.flac"):
        os.mkfifo(speech / name)
    for name in ("b.wav", "d.wav"):
        (speech / name).write_bytes(b"RIFF")
    (speech / "d.wav.source.json").symlink_to("/dev/zero")
    (root / "list.ffconcat").write_text("ffconcat version 1.0\nfile http://127.0.0.1:9/a.wav\n")
    (root / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    (root / "recipe.toml").write_text('[[source]]\nlink = "http://127.0.0.1:9/a.wav"\n')
    (root / "files.toml").write_text('[[source]]\nlink = "file:///etc/passwd"\n')
    os.mkfifo(root / "pipe.pth")
    (root / "zero.pth").symlink_to("/dev/zero")
    (root / "zero.index").symlink_to("/dev/zero")
    (root / "zero.npy").symlink_to("/dev/zero")
    clip = str(next(find_bundled_sample("other").glob("*.flac")))
    out = root / "out"
    out.mkdir()

    def at(name: str) -> str:
        return str(root / name)

    cases = [
        ("quickstart", [at("pipe.pth")]),
        ("fetch", ["http://127.0.0.1:9/a.wav", "--out", at("out/fetched")]),
        ("fetch", ["file:///etc/passwd", "--out", at("out/fetched")]),
        ("prepare", [at("speech"), "--out", at("out/a"), "--preset", "nano"]),
        ("prepare", [at("recipe.toml"), "--out", at("out/b"), "--preset", "nano"]),
        ("prepare", [at("files.toml"), "--out", at("out/c"), "--preset", "nano"]),
        ("prepare", ["http://127.0.0.1:9/speech", "--out", at("out/d")]),
        ("audit", [at("speech")]),
        ("audit", [at("list.ffconcat")]),
        ("plan", [at("evil")]),
        ("train", [at("evil"), "--run", at("out/run")]),
        ("train", [at("venv_dataset"), "--run", at("out/run")]),
        ("convert", [at("hub"), clip, at("out/a.wav")]),
        ("convert", [at("large"), clip, at("out/a.wav")]),
        ("convert", [at("pipe.pth"), clip, at("out/a.wav")]),
        (
            "convert",
            [at("run0"), at("list.m3u8"), at("out/a.wav"), "--index", at("zero.index")],
        ),
        ("serve", [at("hub")]),
        ("status", [at("damaged")]),
        ("watch", [at("damaged")]),
        ("index", [at("damaged"), "--out", at("out/a.index")]),
        ("index", [at("zero.npy"), "--out", at("out/a.index")]),
        ("export", [at("damaged"), "--out", at("out/export")]),
        ("export", [at("large"), "--out", at("out/export")]),
        ("merge", [at("zero.pth"), at("pipe.pth"), "--out", at("out/m.pth")]),
        ("extract", [at("pipe.pth"), "--out", at("out/e.pth")]),
        ("card", [at("large")]),
        ("card", [at("damaged")]),
        ("import", [at("zero.pth"), "--out", at("out/i")]),
        ("download", ["somebody"]),
        ("info", [at("evil")]),
        ("info", [at("venv_dataset")]),
        ("info", [at("damaged")]),
        ("info", [at("pipe.pth")]),
        ("info", [at("zero.index")]),
        ("info", ["simplecache::http://127.0.0.1:9/x"]),
        ("doctor", []),
        ("bug-report", []),
    ]
    cases += [("evaluate", [str(run)]) for run in runs]
    cases += [("report", [str(run), "--out", at("out/r.html")]) for run in runs[:3]]
    return cases


@pytest.fixture(scope="module")
def walked(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("world")
    cases = make_world(root, sample_dataset)
    named = [(" ".join([name, *arguments]), [name, *arguments]) for name, arguments in cases]
    places = {name: root / name for name in ("home", "cache", "tmp")}
    for place in places.values():
        place.mkdir()
    mine = [
        str(root / "out"),
        *map(str, places.values()),
        os.environ["JAX_COMPILATION_CACHE_DIR"],
    ]
    (root / "cases.json").write_text(json.dumps({"allowed": mine, "cases": named}))
    environment = (
        os.environ
        | {
            "HOME": str(places["home"]),
            "RVC_JAX_HOME": str(places["cache"]),
            "TMPDIR": str(places["tmp"]),
            "RVC_JAX_OFFLINE": "0",  # nothing but the code keeps it off the network
            "PYTHONPATH": os.pathsep.join([str(WALK.parents[2]), *sys.path[1:]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WALK_LIBRARIES": json.dumps([sysconfig.get_paths()["purelib"]]),
        }
    )
    subprocess.run(
        [sys.executable, WALK, root / "cases.json", root / "result.json"],
        cwd=root,
        env=environment,
        check=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    return json.loads((root / "result.json").read_text())


def test_the_walk_reaches_every_command(walked):
    assert {case.split()[0] for case in walked} == set(COMMANDS)


def test_nothing_is_contacted_imported_started_or_written(walked):
    programs_of = ("doctor", "bug-report")  # asks installed programs for their versions
    found = [
        f"{case}: {event}"
        for case, result in walked.items()
        for event in result["events"]
        if not (case.startswith(programs_of) and event.startswith("subprocess.Popen"))
    ]
    assert not found, "\n".join(found)


def test_every_command_answers_in_time_and_without_a_traceback(walked):
    for case, result in walked.items():
        assert not result["failure"], f"{case}: {result['failure']}"
        if result["code"]:
            errors = [line for line in result["printed"].split("\n") if "error: " in line]
            assert case in ("doctor", "bug-report") or len(errors) <= 1, (
                f"{case}: {result['printed']}"
            )


def test_a_dataset_that_only_the_run_names_is_not_contacted(walked):
    for case, result in walked.items():
        if case.startswith("evaluate"):
            assert result["code"] == 2 and "--dataset" in result["printed"], result["printed"]
