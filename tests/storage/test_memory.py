"""The memory that a process can have, within the limits of its control groups."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from rvc_jax.storage import memory


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 1000),
        ("0::/a/b\n", {"a/memory.max": "700\n", "a/b/memory.max": "max\n"}, 700),
        ("0::/a\n", {"memory.max": "600", "a/memory.max": "650"}, 600),
        ("4:memory:/a\n3:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "500\n"}, 500),
        # As a container sees the group of its host.
        ("4:memory,x:/docker/1\n", {"memory/memory.limit_in_bytes": "400\n"}, 400),
        ("0::/a\n", {"a/memory.max": "5000\n"}, 1000),
        ("nothing of the kind", {"memory.max": "x"}, 1000),
    ],
)
def test_the_least_limit_counts(
    groups: str,
    files: dict[str, str],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own").write_text(groups)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert memory.measure_available_memory() == expected


def test_a_system_without_control_groups_has_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "missing")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert memory.measure_available_memory() == 1000
