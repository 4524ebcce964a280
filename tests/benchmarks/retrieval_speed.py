"""Seconds for retrieving 1000 features, and for making an index, ours and faiss's, on all cores.

    python tests/benchmarks/retrieval_speed.py FEATURES.npy [--rows 10000 60000 200000] [--build
    20000 60000]

FEATURES.npy: content features of real speech [frames, channels]. The rows lie between neighboring
features, with noise that spreads as the features do. Recall is the share of the eight nearest rows
that one probe finds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from rvc_jax.infer.retrieval import Index
from rvc_jax.voices.formats import faiss_index

QUERIES = 1000
NOISE = 0.7


def speechlike(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows between each of some features and one of its ten nearest, with noise: float32 [count,
    channels]."""
    random = np.random.default_rng(seed)
    exact = faiss.IndexFlatL2(features.shape[1])
    exact.add(features)
    distance, near = exact.search(features, 11)
    first = random.integers(len(features), size=count)
    second = near[first, random.integers(1, 11, size=count)]
    values, axes = np.linalg.eigh(np.cov(features.T))
    spread = (axes * np.sqrt(values.clip(0) / values.clip(0).sum())).T.astype(np.float32)
    noise = random.standard_normal((count, features.shape[1]), dtype=np.float32) @ spread
    noise *= NOISE * np.sqrt(distance[first, 5])[:, None]
    between = random.random((count, 1), dtype=np.float32)
    return features[first] + between * (features[second] - features[first]) + noise


def timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def recall(index: Any, rows: np.ndarray, queries: np.ndarray) -> float:
    exact = faiss.IndexFlatL2(rows.shape[1])
    exact.add(rows)
    pairs = zip(exact.search(queries, 8)[1], index.search(queries, 8)[1], strict=True)
    return float(np.mean([len(set(true) & set(found)) / 8 for true, found in pairs]))


def as_rvc(index: Any, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """What RVC does with what it found."""
    distance, found = index.search(queries, 8)
    weights = np.square(1 / np.maximum(distance, 1e-6))
    return np.sum(
        rows[found] * (weights / weights.sum(axis=1, keepdims=True))[..., None], axis=1
    )


def compare_search(features: np.ndarray, count: int, rounds: int) -> None:
    rows = speechlike(features, count, 0)
    queries = speechlike(features, QUERIES, 1)
    ours = Index(rows)
    exact = faiss.IndexFlatL2(rows.shape[1])
    exact.add(rows)
    cells = faiss_index.count_cells(count)
    quantiser = faiss.IndexFlatL2(rows.shape[1])
    centers = rows[
        np.random.default_rng(2).choice(count, cells, replace=False)
    ]  # as fast as trained ones
    quantiser.add(centers)
    ivf = faiss.IndexIVFFlat(quantiser, rows.shape[1], cells)
    ivf.is_trained = True
    ivf.add(rows)
    runs = {
        "ours, exact": lambda: ours.retrieve(queries),
        "faiss, exact": lambda: as_rvc(exact, rows, queries),
        "faiss, IVF with one probe": lambda: as_rvc(ivf, rows, queries),
    }
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run))
    difference = np.abs(ours.retrieve(queries) - as_rvc(exact, rows, queries)).max()
    print(f"{count} rows: largest difference of ours and faiss's exact {difference:.1e}")
    for name, seconds in times.items():
        span = f"({min(seconds):.3f} to {max(seconds):.3f})"
        print(f"  {name:<28} {statistics.median(seconds):8.3f} s  {span}", flush=True)


def compare_building(features: np.ndarray, count: int, theirs_too: bool) -> None:
    rows = speechlike(features, count, 0)
    queries = speechlike(features, QUERIES, 1)
    channels = rows.shape[1]
    cells = faiss_index.count_cells(count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.index"
        seconds = timed(lambda: faiss_index.write(path, rows))
        ours = faiss.read_index(str(path))
    print(f"{count} rows, {cells} cells")
    print(f"  ours   {seconds:7.1f} s, recall {recall(ours, rows, queries):.3f}", flush=True)
    if not theirs_too:
        return
    theirs = faiss.index_factory(channels, f"IVF{cells},Flat")
    seconds = timed(lambda: (theirs.train(rows), theirs.add(rows)))
    print(f"  faiss  {seconds:7.1f} s, recall {recall(theirs, rows, queries):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 60_000, 200_000])
    parser.add_argument("--build", type=int, nargs="*", default=[20_000, 60_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--patience", type=int, default=60_000, help="faiss makes indices of up to so many rows"
    )
    options = parser.parse_args()
    features = np.load(options.features).astype(np.float32)
    for count in options.rows:
        compare_search(features, count, options.rounds)
    for count in options.build:
        compare_building(features, count, count <= options.patience)


if __name__ == "__main__":
    main()
