"""Checkpoints on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from remote_runs import make_state

from rvc_jax.runs import checkpoint


def test_a_folder_that_cannot_be_renamed_is_moved_by_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some mounts of object stores."""
    replace = os.replace
    moved = []

    def files_only(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(24, "Too many open files")
        moved.append(Path(target).name)
        if moved[-1] == failing:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", files_only)
    monkeypatch.setattr(os, "rename", files_only)  # by which Orbax would do it
    failing = ""
    checkpoint.write(tmp_path, 1, make_state(1))
    assert checkpoint.verify(tmp_path / "1") is None and moved[-1] == checkpoint.HASHES
    np.testing.assert_array_equal(
        checkpoint.read(tmp_path / "1", make_state(1))["w"], make_state(1)["w"]
    )
    failing = "_METADATA"
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path, 2, make_state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
