"""Retrieval against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.data.dataset import load_dataset
from rvc_jax.infer.retrieval import Index, mix


def plain_retrieval(rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """RVC's: eight nearest rows, weighted by the inverse square of faiss's distance, which is squared itself."""
    found = []
    for feature in features.astype(np.float64):
        distance = ((rows - feature) ** 2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[:8]
        weight = (1 / distance[nearest]) ** 2
        found.append((rows[nearest] * (weight / weight.sum())[:, None]).sum(axis=0))
    return np.array(found)


@pytest.mark.parametrize(("rows", "queries"), [(8, 1), (300, 600), (20000, 40)])
def test_finds_what_an_exact_search_finds(rows: int, queries: int) -> None:
    random = np.random.default_rng(rows)
    index = random.standard_normal((rows, 24)).astype(np.float16)
    features = random.standard_normal((queries, 24)).astype(np.float16)
    expected = plain_retrieval(index.astype(np.float64), features)
    np.testing.assert_allclose(Index(index).retrieve(features), expected, atol=2e-4)


def test_real_content_is_drawn_towards_real_speech(sample_dataset) -> None:
    data = load_dataset(sample_dataset)
    rows = np.concatenate([data.train.content[i, : n // 2] for i, n in enumerate(data.train.lengths)])
    features = data.holdout.content[0, : data.holdout.lengths[0] // 2]
    expected = plain_retrieval(rows.astype(np.float64), features[:50])
    found = Index(rows).retrieve(features)
    np.testing.assert_allclose(found[:50], expected, atol=1e-3)


def test_a_row_of_the_index_is_found_as_itself() -> None:
    rows = np.random.default_rng(1).standard_normal((100, 16)).astype(np.float32)
    np.testing.assert_allclose(Index(rows).retrieve(rows[:5]), rows[:5], atol=1e-5)


def test_unvoiced_frames_are_protected_as_in_rvc() -> None:
    random = np.random.default_rng(2)
    content, found = random.standard_normal((2, 6, 4)).astype(np.float32)
    voiced = np.array([True, False, True, False, False, True])
    rate, protect = 0.75, 0.33
    indexed = rate * found + (1 - rate) * content
    keep = np.where(voiced, 1.0, protect)[:, None]
    np.testing.assert_allclose(
        mix(content, found, voiced, rate, protect), keep * indexed + (1 - keep) * content, atol=1e-6
    )
    np.testing.assert_allclose(mix(content, found, voiced, rate, 0.5), indexed, atol=1e-6)
