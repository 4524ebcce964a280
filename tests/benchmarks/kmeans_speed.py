"""Our k-means beside scikit-learn's MiniBatchKMeans, in turns: seconds and quality of the centers.

    python tests/benchmarks/kmeans_speed.py [--rows 200000] [--clusters 10000] [--rounds 1]

The case is RVC's: more than 200,000 rows of 768 content features become about 10,000 centers before
they are indexed. Both get the same rows. MiniBatchKMeans is set up as RVC's WebUI does it (random
start, batches of 256 rows per core, no labels). Quality is the mean squared distance of 20,000 rows
to their nearest center, as a share of the rows' variance: smaller is better.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin_min

from rvc_jax.voices.formats.kmeans import kmeans

CHANNELS = 768
MEASURED_ROWS = 20_000


def make_rows(count: int, seed: int = 0) -> np.ndarray:
    """Draw rows around 4,000 places, with a spread that falls off along the channels."""
    random = np.random.default_rng(seed)
    spread = (1 / np.sqrt(1 + np.arange(CHANNELS))).astype(np.float32)
    places = random.standard_normal((4000, CHANNELS), dtype=np.float32)
    rows = places[random.integers(len(places), size=count)]
    rows += 0.7 * random.standard_normal((count, CHANNELS), dtype=np.float32)
    return rows * spread


def run_ours(rows: np.ndarray, clusters: int) -> np.ndarray:
    """As `faiss_index.write` calls it to reduce rows."""
    return kmeans(rows, clusters, rows_per_cluster=10)


def run_scikit_learn(rows: np.ndarray, clusters: int) -> np.ndarray:
    """As RVC's WebUI reduces rows."""
    batch = 256 * (os.cpu_count() or 1)
    model = MiniBatchKMeans(
        clusters, batch_size=batch, compute_labels=False, init="random", random_state=0
    )
    return model.fit(rows).cluster_centers_


def measure_error(rows: np.ndarray, centers: np.ndarray) -> float:
    """Return the mean squared distance to the nearest center, as a share of the rows' variance."""
    measured = rows[:: max(1, len(rows) // MEASURED_ROWS)]
    distances = pairwise_distances_argmin_min(measured, centers)[1]
    return float(np.mean(np.square(distances)) / np.var(rows, axis=0).sum())


def main() -> None:
    """Prints one line for each method and round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--clusters", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    rows = make_rows(options.rows)
    methods: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "ours": run_ours,
        "scikit-learn": run_scikit_learn,
    }
    for _ in range(options.rounds):
        for name, run in methods.items():
            begin = time.perf_counter()
            centers = run(rows, options.clusters)
            seconds = time.perf_counter() - begin
            error = measure_error(rows, centers)
            print(
                f"{name}: {seconds:.1f} s, {len(centers)} centers, error {error:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
