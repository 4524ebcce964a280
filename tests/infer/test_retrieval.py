"""Retrieval against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.data.dataset import load_dataset
from rvc_jax.errors import UserError
from rvc_jax.infer import retrieval
from rvc_jax.infer.retrieval import Index, mix


def plain_retrieval(rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """RVC's: eight nearest rows, weighted by the inverse square of faiss's distance, which is
    squared itself."""
    found = []
    for feature in features.astype(np.float64):
        distance = ((rows - feature) ** 2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[:8]
        weight = (1 / distance[nearest]) ** 2
        found.append((rows[nearest] * (weight / weight.sum())[:, None]).sum(axis=0))
    return np.array(found)


@pytest.mark.parametrize(
    ("rows", "queries"), [(1, 3), (7, 3), (8, 1), (300, 600), (2048, 65), (20000, 40)]
)
def test_equals_an_exact_search(rows: int, queries: int) -> None:
    random = np.random.default_rng(rows)
    index = random.standard_normal((rows, 24)).astype(np.float16)
    features = random.standard_normal((queries, 24)).astype(np.float16)
    expected = plain_retrieval(index.astype(np.float64), features)
    np.testing.assert_allclose(Index(index).retrieve(features), expected, atol=2e-4)


def test_real_content_in_real_speech(sample_dataset) -> None:
    data = load_dataset(sample_dataset)
    rows = np.concatenate(
        [data.train.content[i, : n // 2] for i, n in enumerate(data.train.lengths)]
    )
    features = data.holdout.content[0, : data.holdout.lengths[0] // 2]
    expected = plain_retrieval(rows.astype(np.float64), features[:50])
    found = Index(rows).retrieve(features)
    np.testing.assert_allclose(found[:50], expected, atol=1e-3)


def test_rows_of_the_index_find_themselves() -> None:
    rows = np.random.default_rng(1).standard_normal((100, 16)).astype(np.float32)
    np.testing.assert_allclose(Index(rows).retrieve(rows[:5]), rows[:5], atol=1e-5)


def test_rounding_does_not_choose_the_rows() -> None:
    """Features far from zero and close to each other, as one channel of some encoders has them."""
    random = np.random.default_rng(3)
    rows = random.standard_normal((5000, 32)) + 300
    features = random.standard_normal((40, 32)) + 300
    rows = rows.astype(np.float32)
    features = features.astype(np.float32)
    expected = plain_retrieval(rows.astype(np.float64), features)
    np.testing.assert_allclose(Index(rows).retrieve(features), expected, atol=1e-3)


def test_adjacent_near_rows_are_all_found() -> None:
    """The nearest rows may all be of one group, or each of another."""
    random = np.random.default_rng(4)
    feature = random.standard_normal((1, 16))
    near = feature + random.standard_normal((8, 16)) / 10
    for places in (range(8), range(640, 648), range(5, 4800, 640)):
        rows = random.standard_normal((5000, 16)) + 3
        rows[list(places)] = near
        np.testing.assert_allclose(
            Index(rows).retrieve(feature), plain_retrieval(near, feature), atol=1e-5
        )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_features_of_any_magnitude(scale: float) -> None:
    rows = np.random.default_rng(5).standard_normal((100, 16)) * scale
    found = Index(rows).retrieve(rows[:3] + 0.1 * scale)
    assert np.isfinite(found).all() and np.abs(found).max() < 4 * scale


def test_indices_of_similar_size_share_a_program() -> None:
    random = np.random.default_rng(6)
    before = None
    for count in (40_000, 40_500, 40_960):
        Index(random.standard_normal((count, 4)).astype(np.float32)).retrieve(
            np.zeros((9, 4), np.float32)
        )
        programs = retrieval.average_nearest._cache_size()
        assert before in (None, programs)
        before = programs


def test_bad_rows_and_features_are_refused() -> None:
    rows = np.ones((20, 16), np.float32)
    with pytest.raises(UserError, match="16 channels, .* 24"):
        Index(rows).retrieve(np.zeros((5, 24), np.float32))
    with pytest.raises(UserError, match="no rows"):
        Index(rows[:0])
    for value in (np.nan, np.inf, 1e30):
        rows[3, 3] = value
        with pytest.raises(UserError, match="NaN"):
            Index(rows)
    assert Index(np.ones((20, 16), np.float16)).retrieve(
        np.zeros((0, 16), np.float16)
    ).shape == (0, 16)


def test_unvoiced_frames_are_protected_as_in_rvc() -> None:
    random = np.random.default_rng(2)
    content, found = random.standard_normal((2, 6, 4)).astype(np.float32)
    voiced = np.array([True, False, True, False, False, True])
    rate = 0.75
    protect = 0.33
    indexed = rate * found + (1 - rate) * content
    keep = np.where(voiced, 1.0, protect)[:, None]
    np.testing.assert_allclose(
        mix(content, found, voiced, rate, protect),
        keep * indexed + (1 - keep) * content,
        atol=1e-6,
    )
    np.testing.assert_allclose(mix(content, found, voiced, rate, 0.5), indexed, atol=1e-6)
