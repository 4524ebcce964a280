"""Headers that end anywhere are left to ffmpeg's judgment."""

from __future__ import annotations

from pathlib import Path

import hostile_audio
import pytest

from rvc_jax.audio.containers import find_parts

HEADS = {
    "RF64": b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + 40 * b"\1",
    "W64": bytes.fromhex("726966662e91cf11a5d628db04c10000") + 80 * b"\2",
    "AIFC": b"FORM\0\0\1\0AIFCCOMM\0\0\0\x12" + 60 * b"\3",
    "CAF": b"caff\0\1\0\0desc\0\0\0\0\0\0\0\x20" + 60 * b"\4",
    "AU": b".snd" + 40 * b"\5",
    "mp4": b"\0\0\0\x18ftypM4A \0\0\0\0\0\0\0\1mdat" + 40 * b"\6",
}


@pytest.mark.parametrize("name", [*HEADS, *hostile_audio.containers()])
def test_a_file_that_ends_within_its_header_is_one_part(tmp_path: Path, name: str) -> None:
    content = HEADS.get(name) or hostile_audio.containers()[name]
    path = tmp_path / "cut"
    for length in range(1, min(len(content), 300)):
        path.write_bytes(content[:length])
        with path.open("rb") as file:
            parts = find_parts(file)
        assert [part.start for part in parts] == [0]
        assert parts[0].stop == length
