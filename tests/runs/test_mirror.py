"""Copies between a run at a URL and its working folder: what counts, and what is never written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from remote_runs import list_names, make_state, save

from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT
from rvc_jax.runs import checkpoint
from rvc_jax.runs.mirror import ALL_PARTS, Mirror, fetch_run, is_mirrored, working_folder
from rvc_jax.runs.upload import sync_run
from rvc_jax.storage import places


def test_a_half_sent_checkpoint_is_nobodys_newest(
    run_url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(run_url, working_folder(run_url))
    save(mirror.run, 1)
    mirror.list_remote()
    mirror.push()
    save(mirror.run, 2)
    put = places.put

    def fails(path: Path, place: str) -> None:
        if path.name == "_METADATA" and "/checkpoints/" in place:
            raise UserError("the network is gone")
        put(path, place)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="network"):
        patch.setattr(places, "put", fails)
        mirror.push()
    assert any(name.startswith("checkpoints/2/") for name in list_names(run_url))
    other_machine()
    run = fetch_run(run_url, *ALL_PARTS)
    assert (
        checkpoint.list_steps(run / "checkpoints") == [1]
        and checkpoint.verify(run / "checkpoints" / "1") is None
    )
    assert mirror.push() == 0  # the first machine is there again, and sends the rest
    assert checkpoint.find_newest(fetch_run(run_url, *ALL_PARTS) / "checkpoints").name == "2"


def test_a_damaged_one_at_the_url_is_passed_over(run_url: str, other_machine: Any) -> None:
    with sync_run(run_url, SILENT) as run:
        save(run, 1)
        save(run, 2)
    (damaged,) = [
        name
        for name in list_names(run_url)
        if name.startswith("checkpoints/2/default/_METADATA")
    ]
    places.write(f"{run_url}/{damaged}", b"{}")
    other_machine()
    run = fetch_run(run_url, *ALL_PARTS)
    assert [checkpoint.verify(run / "checkpoints" / step) is None for step in ("1", "2")] == [
        True,
        False,
    ]


def test_what_goes_while_it_is_read_is_looked_for_again(
    run_url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sync_run(run_url, SILENT) as run:
        save(run, 1)
    other_machine()
    get = places.get

    def late(place: str, path: Path) -> None:
        if "/best/1/" in place and list_names(run_url) & {"best/1/sha256.json"}:
            save(run, 2)
            mirror = Mirror(run_url, run.parent)
            mirror.list_remote()
            mirror.push()
        get(place, path)

    monkeypatch.setattr(places, "get", late)
    assert (
        checkpoint.read(
            checkpoint.find_newest(fetch_run(run_url, "best") / "best"), make_state(0)
        )["w"][0, 0]
        == 2
    )


PARTS = st.sampled_from(
    [
        "",
        ".",
        "..",
        "...",
        "checkpoints",
        "best",
        "metrics",
        "config.json",
        "7",
        "07",
        "²",
        "default",
        "a\\b",
        "c:",
        "\0",
        "..\\x",
        "sha256.json",
        "\n",
    ]
) | st.text(max_size=8)


@given(st.lists(PARTS, min_size=1, max_size=5).map("/".join))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    root = Path("/nowhere/run")
    if is_mirrored(name):
        path = Path(os.path.normpath(root / name))
        assert path.relative_to(root).as_posix() == name and len(path.parts) > len(root.parts)
        assert (
            path.parts[len(root.parts)] in ALL_PARTS and "\\" not in name and "\0" not in name
        )


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=6))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_hostile_listing_writes_nothing_outside(tmp_path: Path, hostile: list[str]) -> None:
    entries = {
        name: places.RemoteFile(1, "1")
        for name in (*hostile, "metrics/events", "checkpoints/../../evil", "/evil")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "list_versions", lambda place: entries)
        asked: list[Path] = []
        patch.setattr(places, "get", lambda place, path: asked.append(path))
        Mirror("memory://b", tmp_path / "w").pull()
    assert tmp_path / "w" / "run" / "metrics" / "events" in asked
    for path in asked:
        assert (
            Path(os.path.normpath(path)).is_relative_to(tmp_path / "w" / "run")
            and ".." not in path.parts
        )
