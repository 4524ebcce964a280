"""The hold-out of a report, also while the run is training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.report.holdout_clips import load_newest_voice
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder


def test_a_voice_that_vanishes_while_it_is_read_is_read_again(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.open(shutil.copytree(tiny_run, tmp_path / "run"))
    load = RunFolder.load_generator
    old = checkpoint.find_newest(folder.best)
    new = old.with_name(str(int(old.name) + 1))

    def replaced(self: RunFolder, which: str) -> tuple:
        if old.exists():
            old.rename(new)
            raise UserError(f"the checkpoint {old} is damaged (a file is missing)")
        return load(self, which)

    monkeypatch.setattr(RunFolder, "load_generator", replaced)
    assert load_newest_voice(folder, "best")[0] == int(new.name)
    largest = max(
        (path for path in new.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    largest.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        load_newest_voice(folder, "best")
