"""Retrieval indices: faiss reads and searches what we write, we read what it writes, and damage is
refused."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.formats import faiss_index
from rvc_jax.voices.formats.faiss_index import WrittenIndex, count_cells, read, write

faiss = pytest.importorskip("faiss")


def speechlike(count: int, channels: int, seed: int = 0) -> np.ndarray:
    """Rows around a number of centers, float32 [count, channels]."""
    random = np.random.default_rng(seed)
    centers = 3 * np.random.default_rng(99).standard_normal((40, channels))
    return (
        centers[random.integers(40, size=count)] + random.standard_normal((count, channels))
    ).astype(np.float32)


def recall(index: Any, rows: np.ndarray, queries: np.ndarray) -> float:
    """Share of the eight nearest rows that the index finds with its one probe."""
    exact = faiss.IndexFlatL2(rows.shape[1])
    exact.add(rows)
    pairs = zip(exact.search(queries, 8)[1], index.search(queries, 8)[1], strict=True)
    return float(np.mean([len(set(true) & set(found)) / 8 for true, found in pairs]))


def refusal(path: Path) -> str:
    """Why the file is refused: one line that names it."""
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert (
        text.startswith(f"{path}: ") and text.isprintable() and len(text) < len(str(path)) + 250
    )
    return text.removeprefix(f"{path}: ")


# What we write


@pytest.mark.parametrize(
    ("count", "channels", "cells"),
    [
        (1, 768, 1),
        (5, 256, 1),
        (38, 256, 1),
        (39, 768, 1),
        (40, 768, 1),
        (1000, 256, 25),
        (20000, 8, 512),
    ],
)
def test_faiss_reads_and_searches_it(
    tmp_path: Path, count: int, channels: int, cells: int
) -> None:
    rows = speechlike(count, channels)
    path = tmp_path / "voice.index"
    assert write(path, rows.astype(np.float64)) == WrittenIndex(count, count, channels, cells)
    index = faiss.read_index(str(path))
    assert (index.ntotal, index.d, index.nlist, index.nprobe) == (count, channels, cells, 1)
    assert index.is_trained and index.metric_type == faiss.METRIC_L2
    np.testing.assert_array_equal(
        index.reconstruct_n(0, index.ntotal), rows
    )  # what the tools of the RVC world call
    distance, found = index.search(rows[:300], 1)
    np.testing.assert_array_equal(
        found[:, 0], np.arange(len(found))
    )  # so every row is in its nearest cell
    np.testing.assert_allclose(distance, 0, atol=1e-2)
    assert min(index.invlists.list_size(cell) for cell in range(cells)) > 0
    np.testing.assert_array_equal(read(path), rows)
    again = tmp_path / "again.index"
    faiss.write_index(index, str(again))
    assert again.read_bytes() == path.read_bytes()


def test_its_cells_are_as_good_as_those_of_faiss(tmp_path: Path) -> None:
    rows = speechlike(6000, 160)
    queries = speechlike(300, 160, seed=1)
    write(tmp_path / "voice.index", rows)
    theirs = faiss.index_factory(160, f"IVF{count_cells(len(rows))},Flat")
    theirs.train(rows)
    theirs.add(rows)
    ours = recall(faiss.read_index(str(tmp_path / "voice.index")), rows, queries)
    assert ours > recall(theirs, rows, queries) - 0.03 and ours > 0.2


def test_one_seed_makes_one_file(tmp_path: Path) -> None:
    rows = speechlike(500, 8)
    files = [tmp_path / name for name in "abc"]
    for path, seed in zip(files, (0, 0, 1), strict=True):
        write(path, rows, seed)
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_equal_rows_leave_no_empty_cell(tmp_path: Path) -> None:
    rows = np.repeat(speechlike(3, 8), 200, axis=0)
    written = write(tmp_path / "voice.index", rows)
    index = faiss.read_index(str(tmp_path / "voice.index"))
    assert written.cells == index.nlist <= 3
    assert (index.search(speechlike(100, 8, seed=2), 8)[1] >= 0).all()


def test_very_many_rows_become_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "MAX_ROWS", 1000)
    monkeypatch.setattr(faiss_index, "REDUCED_ROWS", 100)
    rows = speechlike(1500, 8)
    assert write(tmp_path / "voice.index", rows) == WrittenIndex(100, 1500, 8, 2)
    centers = read(tmp_path / "voice.index")
    nearest = np.square(rows[:, None] - centers).sum(-1).min(1).mean()
    assert nearest < 0.7 * np.square(rows[:, None] - rows[None, :100]).sum(-1).min(1).mean()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.zeros((0, 8), np.float32), "no features"),
        (np.zeros(8, np.float32), "rows of features"),
        (np.zeros((8, 8), np.int64), "rows of features"),
        (np.zeros((8, 0), np.float32), "rows of features"),
        (np.full((8, 8), np.nan), "8 of 8 rows"),
        (np.full((8, 8), 1e300), "8 of 8 rows"),
        (np.full((8, 8), 1e20), "8 of 8 rows"),
    ],
)
def test_bad_rows_leave_no_file(tmp_path: Path, rows: np.ndarray, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        write(tmp_path / "voice.index", rows)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "missing" / "voice.index", np.ones((8, 8)))
    assert not list(tmp_path.iterdir())


# What others write


def sparse(rows: np.ndarray) -> Any:
    """Most cells are not described."""
    index = faiss.index_factory(rows.shape[1], "IVF50,Flat")
    index.train(speechlike(2000, rows.shape[1]))
    index.add(rows[:7])
    return index


def with_map(rows: np.ndarray, kind: int) -> Any:
    index = faiss.index_factory(
        rows.shape[1], "IVF4,Flat", faiss.METRIC_INNER_PRODUCT if kind else faiss.METRIC_L2
    )
    index.train(rows)
    index.add(rows)
    index.set_direct_map_type(kind)
    return index


def with_ids(rows: np.ndarray, factory: str) -> Any:
    index = faiss.index_factory(rows.shape[1], factory)
    index.train(rows)
    index.add_with_ids(rows[::-1].copy(), 10 * np.arange(len(rows))[::-1])
    return index


def filled(index: Any, rows: np.ndarray) -> Any:
    index.train(rows)
    index.add(rows)
    return index


MAKERS = {
    "IVF": lambda rows: filled(faiss.index_factory(8, "IVF9,Flat"), rows),
    "few rows in many cells": sparse,
    "array of ids": lambda rows: with_map(rows, faiss.DirectMap.Array),
    "table of ids": lambda rows: with_map(rows, faiss.DirectMap.Hashtable),
    "flat": lambda rows: filled(faiss.IndexFlatL2(8), rows),
    "flat, inner product": lambda rows: filled(faiss.IndexFlatIP(8), rows),
    "flat, another metric": lambda rows: filled(
        faiss.IndexFlat(8, faiss.METRIC_Canberra), rows
    ),
    "id map": lambda rows: with_ids(rows, "IDMap,Flat"),
    "id map both ways": lambda rows: with_ids(rows, "IDMap2,Flat"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_reads_what_faiss_writes(tmp_path: Path, name: str) -> None:
    rows = speechlike(400, 8)
    path = tmp_path / "their.index"
    index = MAKERS[name](rows)
    faiss.write_index(index, str(path))
    np.testing.assert_array_equal(read(path), rows[: index.ntotal])


@pytest.mark.parametrize("kind", [b"IvFl", b"IvFL"])
def test_reads_old_files_as_faiss_does(tmp_path: Path, kind: bytes) -> None:
    """Their ids stand before the map, and their rows after it."""
    rows = speechlike(6, 2)
    path = tmp_path / "old.index"
    header = lambda count: struct.pack("<iqqq?i", 2, count, 0, 0, True, 1)  # noqa: E731
    cells = [np.array([4, 0, 1]), np.array([2, 5, 3])]
    content = kind + header(6) + struct.pack("<QQ", 2, 1)
    content += b"IxF2" + header(2) + struct.pack("<Q", 4) + np.zeros((2, 2), "<f4").tobytes()
    content += b"".join(
        struct.pack("<Q", 3) + ids.astype("<i8").tobytes() for ids in cells
    ) + struct.pack("<BQ", 0, 0)
    length = 6 if kind == b"IvFl" else 24
    content += b"".join(struct.pack("<Q", length) + rows[ids].tobytes() for ids in cells)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), rows)
    np.testing.assert_array_equal(faiss.read_index(str(path)).reconstruct_n(0, 6), rows)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        ("HNSW8", "HNSW"),
        ("PQ2x4", "product quantizer"),
        ("SQ8", "scalar quantizer"),
        ("IVF2,PQ2x4", "product quantizer"),
        ("IVF2,SQ8", "scalar quantizer"),
        ("PCA4,Flat", "transform"),
        ("LSH", "LSH"),
        ("IVF2,Flat,RFlat", "refined"),
        ("IVF2_HNSW8,Flat", "HNSW"),
        ("NSG8", "NSG"),
        ("IDMap,SQ8", "scalar quantizer"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, factory: str, name: str) -> None:
    path = tmp_path / "other.index"
    rows = speechlike(200, 8)
    index = faiss.index_factory(8, factory)
    index.train(rows)
    faiss.write_index(index, str(path))
    text = refusal(path)
    assert name in text and "only Flat and IVF,Flat" in text


# Damage


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of 120 rows of 4 channels in 3 cells."""
    path = tmp_path_factory.mktemp("good") / "voice.index"
    write(path, speechlike(120, 4))
    return path.read_bytes()


_HEADER = 37
_CENTRES = 98
"""Bytes of a kind and a header, and where the centers begin."""

_LISTS = _CENTRES + 3 * 16 + 9


@pytest.mark.parametrize(
    ("place", "content", "reason"),
    [
        (0, b"RIFF", "begins with"),
        (0, b"\x80\x02}q", "begins with"),
        (4, struct.pack("<i", 0), "0 channels"),
        (4, struct.pack("<i", -4), "-4 channels"),
        (4, struct.pack("<i", 2**31 - 1), "channels"),
        (4, struct.pack("<i", 8), ""),
        (8, struct.pack("<q", -1), "cannot hold -1 rows"),
        (8, struct.pack("<q", 2**62), "cannot hold"),
        (8, struct.pack("<q", 119), "not 119"),
        (_HEADER, struct.pack("<Q", 2**63), "cannot hold the centers"),
        (_HEADER, struct.pack("<Q", 2), "2 cells have 3 centers"),
        (_CENTRES - 8, struct.pack("<Q", 2**61), "are not"),
        (_LISTS - 8, struct.pack("<Q", 2**62), "ends too early"),
        (_LISTS, b"xxxx", "not described"),
        (_LISTS, b"ilod", "another file"),
        (_LISTS + 20, b"none", "sizes of its cells"),
        (_LISTS + 24, struct.pack("<Q", 4), "sizes of"),
        (_LISTS + 32, struct.pack("<Q", 2**63), "not 120"),
        (_LISTS + 56, struct.pack("<f", np.nan), "1 of 120 rows"),
        (_LISTS + 56, struct.pack("<f", -1e20), "1 of 120 rows"),
        (-8, struct.pack("<q", 10**6), "ids"),
        (-8, struct.pack("<q", -1), "ids"),
    ],
)
def test_what_cannot_be_true_is_refused(
    tmp_path: Path, good: bytes, place: int, content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.index"
    place %= len(good)
    path.write_bytes(good[:place] + content + good[place + len(content) :])
    assert reason in refusal(path)


def test_files_that_are_none_are_refused(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "bad.index"
    assert "cannot be read" in refusal(path)
    with pytest.raises(UserError, match="is not a file, but a folder"):
        read(tmp_path)
    for content, reason in (
        (b"", "ends too early"),
        (good + b"more", "4 bytes follow"),
        (good[:-1], "ends too early"),
    ):
        path.write_bytes(content)
        assert reason in refusal(path)
    index = faiss.index_factory(4, "IVF2,Flat")
    index.train(speechlike(100, 4))
    faiss.write_index(index, str(path))
    assert "added_" in refusal(path)
    nested = b"IxMp" + good[4:_HEADER]
    path.write_bytes(50 * nested + good)
    assert "are nested" in refusal(path)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_damage_ends_in_one_line(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    """Bytes changed, numbers replaced by extreme ones, ends cut off: rows, or a refusal, in little
    memory."""
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, _LISTS + 80) | st.integers(0, len(good) - 8))
        extreme = st.sampled_from([0, 1, 2**31, 2**40, 2**62, 2**63, 2**64 - 1]).map(
            lambda value: value.to_bytes(8, "little")
        )
        change = data.draw(st.binary(min_size=1, max_size=4) | extreme)
        content[place : place + len(change)] = change
    path = tmp_path / "damaged.index"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    tracemalloc.start()
    try:
        rows = read(path)
        assert (
            rows.dtype == np.float32 and np.isfinite(rows).all() and rows.nbytes <= len(content)
        )
    except UserError as error:
        assert "\n" not in str(error) and str(error).isprintable()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20


# The command


def test_the_command_goes_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = speechlike(200, 8).astype(np.float16)
    array = tmp_path / "total_fea.npy"
    index = tmp_path / "voice.index"
    back = tmp_path / "back.npy"
    np.save(array, rows)
    assert main(["index", str(array), "--out", str(index)]) == 0
    assert faiss.read_index(str(index)).nlist == 5 and "cells" in capsys.readouterr().out
    assert main(["index", str(index), "--out", str(back), "--json"]) == 0
    assert '"rows": 200' in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(back), rows)


def test_the_command_takes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DatasetInfo(
        preset="nano",
        sample_rate=16000,
        content_encoder="whisper-tiny",
        content_channels=384,
        content_fingerprint="",
        f0_method="swift",
        speakers=("a",),
        speaker_minutes=(1.0,),
        speaker_median_f0=(200.0,),
        files=1,
        source_minutes=1.0,
        speech_minutes=1.0,
        train_slices=1,
        holdout_slices=0,
        holdout_seconds=0.0,
        dropped=(),
        notes=(),
        config={},
        fingerprint="",
        median_f0=200.0,
    )
    rows = speechlike(30, 384)
    run = RunFolder(tmp_path / "run", PRESETS["nano"], dataset)
    run.write()
    run.write_index(rows)
    assert main(["index", str(run.path), "--out", str(tmp_path / "voice.index")]) == 0
    assert "other programs have no features of that width" in capsys.readouterr().out
    np.testing.assert_array_equal(read(tmp_path / "voice.index"), rows.astype(np.float16))
    (run.path / "index.npy").unlink()
    assert main(["index", str(run.path), "--out", str(tmp_path / "voice.index")]) == 2


def test_the_command_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled, short, flat = (tmp_path / f"{name}.npy" for name in ("pickled", "short", "flat"))
    np.save(pickled, np.array([{}]), allow_pickle=True)
    np.save(short, np.zeros((100, 8), np.float32))
    short.write_bytes(short.read_bytes()[:-5])
    np.save(flat, np.zeros(8, np.float32))
    out = tmp_path / "voice.index"
    for source, target in [
        (pickled, out),
        (short, out),
        (flat, out),
        (tmp_path, out),
        (tmp_path / "none.npy", out),
        (tmp_path / "none.index", out),
        (flat, tmp_path / "voice.txt"),
        (flat, tmp_path / "none" / "voice.index"),
    ]:
        assert main(["index", str(source), "--out", str(target)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("rvc-jax: error: ") and error.count("\n") == 1
    assert not out.exists()
