"""Every JSON file of ours, damaged at random: a value of its type, or one line."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from json_mutations import mutate
from made_runs import info, make_run

from rvc_jax.cli.describe import describe
from rvc_jax.data.cache import Cache, make_cache_key
from rvc_jax.data.dataset import DatasetInfo, read_info
from rvc_jax.data.fetch.sidecar import Sidecar, read_sidecar, write_sidecar
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatRecord, read_heartbeat
from rvc_jax.runs.lock import RunLock
from rvc_jax.runs.mirror import Mirror
from rvc_jax.runs.status import read_status
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.voices.formats import native
from rvc_jax.voices.model import count_epochs

CASES = 300
SECONDS = 2.0
"""Limit of one case, also on a busy machine."""
KEY = make_cache_key("key")


def read_run(folder: Path) -> None:
    run = RunFolder.open(folder)
    count_epochs(run, 20)
    assert read_status(folder, now=1e9).state
    described = describe(folder)
    assert described["kind"] == "run"
    json.dumps(described, default=str)


def read_heartbeat_of(folder: Path) -> None:
    beat = read_heartbeat(folder)
    assert beat is None or isinstance(beat, HeartbeatRecord)
    read_status(folder, now=1e9)


def read_hashes(folder: Path) -> None:
    damage = checkpoint.verify(folder / "best" / "10")
    assert damage is None or "\n" not in damage


def read_dataset(folder: Path) -> None:
    assert isinstance(read_info(folder), DatasetInfo)


def read_note(folder: Path) -> None:
    assert isinstance(read_sidecar(folder / "a.wav"), Sidecar)


def read_cache(folder: Path) -> None:
    value = Cache(folder).get_value(KEY, dict)
    assert value in (None, {"a": 1})


def read_owner(folder: Path) -> None:
    RunLock("memory://owners/run", folder)


def read_spent(folder: Path) -> None:
    BudgetMeter(folder / "spent.json", None)


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "config.json": ("config.json", read_run),
    "history.jsonl": ("history.jsonl", read_run),
    "heartbeat.json": ("heartbeat.json", read_heartbeat_of),
    "sha256.json": ("best/10/sha256.json", read_hashes),
    "metadata.json": ("metadata.json", read_dataset),
    "a.wav.source.json": ("a.wav.source.json", read_note),
    "cache entry": (f"{KEY[:2]}/{KEY}.json", read_cache),
    "identity.json": ("identity.json", read_owner),
    "mirror.json": ("mirror.json", lambda folder: Mirror("memory://x/y", folder) and None),
    "spent.json": ("spent.json", read_spent),
    "description": (
        native.DESCRIPTION,
        lambda folder: native.read_description(folder) and None,
    ),
}
"""Each kind: where it is, and what reads it and uses what it says."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is a run, and has one file of every other kind as well."""
    path = make_run(tmp_path_factory.mktemp("kinds") / "run").path
    shutil.rmtree(path / "checkpoints")  # smaller to hash
    beat = {"state": "failed", "why": "x", "alive": 1.0, "moved": 1.0, "machine": "m"}
    beat |= {"process": 1, "losses": {"loss/mel": 1.0}, "message": "text", "holdout": 1.5}
    (path / "heartbeat.json").write_text(json.dumps(beat))
    described = {"format": "rvc_jax voice", "version": "3.0.0", **info().to_dict()}
    described |= {"dropped": [["a.wav", 1.5, "silent"]], "notes": ["a note"]}
    (path / "metadata.json").write_text(json.dumps(described))
    texts = ("link", "page", "extractor", "id", "title", "fetched_at", "sha256", "yt_dlp")
    sidecar = Sidecar(
        **dict.fromkeys(texts, "x"),
        uploader=None,
        licence=None,
        duration=10.0,
        cuts=((0.0, 1.0), (2.0, None)),
    )
    write_sidecar(path / "a.wav", sidecar)
    Cache(path).put_value(KEY, {"a": 1})
    (path / "identity.json").write_text('"0123"')
    (path / "mirror.json").write_text('{"config.json": [1, 2, "x"]}')
    (path / "spent.json").write_text('{"seconds": 5.5}')
    (path / native.DESCRIPTION).write_text(
        json.dumps({"format": native.FORMAT, "version": "1", "made_of": {"file": "x"}})
    )
    return path


@pytest.mark.parametrize("kind", FILES)
def test_a_value_or_one_line(folder: Path, kind: str) -> None:
    name, read = FILES[kind]
    file = folder / name
    whole = file.read_bytes()
    refused = 0
    try:
        read(folder)
        for seed in range(CASES):
            if kind == "history.jsonl":
                lines = whole.splitlines()
                lines[seed % len(lines)] = mutate(lines[seed % len(lines)], seed)
                file.write_bytes(b"\n".join(lines) + b"\n")
            elif kind == "cache entry" and seed % 2:
                header, _, content = whole.partition(b"\n")
                file.write_bytes(header + b"\n" + mutate(content, seed))
            else:
                file.write_bytes(mutate(whole, seed))
            begin = time.monotonic()
            try:
                read(folder)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 1000, (seed, str(error))
            except Exception as error:
                pytest.fail(f"{kind}, seed {seed}: {error!r}: {file.read_bytes()[:300]!r}")
            assert time.monotonic() - begin < SECONDS, (kind, seed)
    finally:
        file.write_bytes(whole)
    read(folder)
    if kind in ("config.json", "metadata.json", "a.wav.source.json"):
        assert refused > CASES / 2
