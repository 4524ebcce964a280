"""What killed processes leave is recognized and removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rvc_jax.storage.scratch import (
    clear_leftovers,
    make_scratch_name,
    own_tempfiles,
    temporary_folder,
)

LEAVE = """
import os, sys
from pathlib import Path
from rvc_jax.storage.scratch import make_scratch_name, temporary_folder
folder = Path(sys.argv[1])
(folder / make_scratch_name()).write_text("half")
(folder / make_scratch_name("tmp.flac")).write_text("half")
(folder / make_scratch_name("unfinished")).mkdir()
with temporary_folder(folder) as scratch:
    (scratch / "deep").mkdir()
    (scratch / "deep" / "file").write_text("half")
    print("ready", flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_removed_and_all_else_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 4
    own = tmp_path / make_scratch_name()
    own.write_text("being written")
    stranger = tmp_path / "rvc_jax-notes.tmp"
    stranger.write_text("somebody's")
    target = tmp_path / "keep"
    target.mkdir()
    (target / "file").write_text("kept")
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, stranger, target])


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    dead = make_scratch_name().replace(f"-{os.getpid()}-", "-4000000-")
    (folder / dead).symlink_to(kept)
    clear_leftovers(folder)
    assert not list(folder.iterdir()) and (kept / "file").exists()


@pytest.mark.parametrize(("days", "stays"), [(1, True), (8, False)])
def test_those_of_other_machines_stay_for_a_week(
    tmp_path: Path, days: float, stays: bool
) -> None:
    name = make_scratch_name("unfinished")
    foreign = tmp_path / name.replace(name.split("-")[1], "0" * 12)
    (foreign / "below").mkdir(parents=True)
    file = foreign / "below" / "file"
    file.write_text("half")
    long_ago = time.time() - 30 * 86400
    for path in (foreign / "below", foreign):
        os.utime(path, (long_ago, long_ago))
    changed = time.time() - days * 86400
    os.utime(file, (changed, changed))
    clear_leftovers(tmp_path)
    assert foreign.exists() == stays


def test_temporary_files_of_libraries_are_kept_together(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with temporary_folder(tmp_path) as scratch, own_tempfiles(scratch):
        left = Path(tempfile.mkdtemp("tfds"))
        assert left.parent == scratch
    assert tempfile.gettempdir() == before and not list(tmp_path.iterdir())
