"""What the tests of the notebook's steps share."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebook_room import Room


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)
