"""How a written index is compared with the rows that it was made from."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import ROWS

from rvc_jax.voices.export_writer import compare_rows
from rvc_jax.voices.formats.pth_writer import ReadBackError


def test_an_index_must_have_the_rows() -> None:
    rows = ROWS.astype(np.float32)
    assert compare_rows(rows, ROWS) == {"same_rows": True}
    assert compare_rows(rows[::-1], ROWS) == {"same_rows": True}
    changed = rows.copy()
    changed[3, 5] += 1e-3
    for wrong in (
        changed,
        rows[:-1],
        rows[:, :-1],
        np.full_like(rows, np.nan),
        rows[:0],
        rows[0],
    ):
        with pytest.raises(ReadBackError):
            compare_rows(wrong, ROWS)
    many = np.random.default_rng(1).standard_normal((200_001, 2)).astype(np.float32)
    assert compare_rows(many[:10_000] * 0.5, many) == {
        "same_rows": False,
        "clustered_from": 200_001,
    }
    for wrong in (many[:10_000] * 9, np.concatenate([many, many])):
        with pytest.raises(ReadBackError):
            compare_rows(wrong, many)
