"""Several processes that train one voice: how they find each other, what they share, what they have
to agree on.

All of them run the same program on their part of every batch. The first one alone writes the run's
folder, measures the hold-out and speaks.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvc_jax.config import ClusterConfig
from rvc_jax.errors import UserError
from rvc_jax.train.rendezvous import wait_for_all

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints"
_MAX_ERROR_BYTES = 1000
"""Bytes of a failure that the other processes are told."""


def join(cluster: ClusterConfig) -> None:
    """Makes this process one of several, if it is to be; call it before JAX computes anything.

    TPU slices of several hosts, Slurm and Open MPI tell who belongs together; elsewhere `cluster`
    does.

    Raises:
      UserError: if the others can't be found, or only a part of `cluster` is given.
    """
    if cluster.processes < 0:
        raise UserError(f"--processes must be at least 0, not {cluster.processes}")
    given = (bool(cluster.coordinator), cluster.processes > 1, cluster.process >= 0)
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --processes (at least 2) and --process go together: give all three, or none"
        )
    if not any(given) and (cluster.processes == 1 or not _has_peers()):
        return
    where = (cluster.coordinator, cluster.processes, cluster.process) if all(given) else ()
    if where:
        wait_for_all(*where, cluster.join_seconds)
    try:
        jax.distributed.initialize(*where, initialization_timeout=cluster.join_seconds)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes can't be connected: {str(error).strip().splitlines()[0][:200]}"
        ) from error


def leave() -> None:
    """Waits for the others to be done; from here on this process is alone."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def _has_peers() -> bool:
    """Whether the machine's environment tells of other processes."""
    counts = (os.environ.get(name, "1") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    if any(count.isdigit() and int(count) > 1 for count in counts):
        return "SLURM_STEP_NODELIST" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ
    if hosts := os.environ.get("TPU_WORKER_HOSTNAMES"):
        return "," in hosts
    is_tpu = any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return is_tpu and "," in _metadata()


def _metadata() -> str:
    """Addresses of a TPU slice's hosts, separated by commas, as its machines are told them."""
    request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read(1 << 20).decode()
    except (OSError, ValueError):
        return ""


def is_first() -> bool:
    """Whether this process writes and speaks."""
    return jax.process_index() == 0


def broadcast_from_first(make: Callable[[], Any]) -> Any:
    """What `make` gives in the first process, in all of them; it has to fit into JSON.

    Raises:
      Whatever `make` raises in the first process; UserError with the same words in the others.
    """
    if jax.process_count() == 1:
        return make()
    answer: dict[str, Any] = {}
    failure: Exception | None = None
    if is_first():
        try:
            answer = {"value": make()}
        except Exception as error:
            failure = error
            answer = {"error": str(error)}
    text = np.frombuffer(json.dumps(answer).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(length, np.uint8)
    padded[: len(text)] = text[:length]
    answer = json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["value"]


def run_in_all(make: Callable[[], Any]) -> Any:
    """What `make` gives in this process, once it has given something in every one.

    Raises:
      UserError: if it does so in any process: its own words in that one, the first such process's
          in the others.
    """
    if jax.process_count() == 1:
        return make()
    value = None
    failure = None
    try:
        value = make()
    except UserError as error:
        failure = error
    words = np.zeros(_MAX_ERROR_BYTES, np.uint8)
    text = str(failure or "").encode()[:_MAX_ERROR_BYTES]
    words[: len(text)] = np.frombuffer(text, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(words))
    if failure is not None:
        raise failure
    for process, row in enumerate(rows):
        if row.any():
            raise UserError(
                f"process {process}: {bytes(row).rstrip(bytes(1)).decode(errors='replace')}"
            )
    return value


def place_on_mesh(array: np.ndarray, mesh: Mesh, *axes: str | None) -> jax.Array:
    """An array that every process has, divided along the named axes of the mesh; each gives its
    devices their part."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(tree: Any, shapes: Any, mesh: Mesh) -> Any:
    """Arrays of the first process (None elsewhere), of the given shapes, on every device of all
    processes."""
    if jax.process_count() == 1:
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    if tree is None:
        tree = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes)
    arrays = multihost_utils.broadcast_one_to_all(tree)
    state = jax.tree.map(lambda array: place_on_mesh(np.asarray(array), mesh), arrays)
    _connect_devices(mesh)
    return state


def _connect_devices(mesh: Mesh) -> None:
    """All devices add a number. The first step would be where they first meet, and some processes
    come to it long before the others have compiled it; waiting for a connection has its limit."""
    ones = place_on_mesh(np.ones(mesh.size, np.float32), mesh, "data")
    jax.block_until_ready(
        jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones)
    )


def own(tree: Any) -> Any:
    """Replicated arrays as one of this process's devices has them: to compute with alone."""
    return jax.tree.map(
        lambda array: array.addressable_data(0) if isinstance(array, jax.Array) else array, tree
    )


class AsyncAnyReduce:
    """Wishes of single processes that all have to follow in the same step: known one call late,
    without waiting."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._any = jax.jit(
            lambda wishes: jnp.max(wishes, axis=0),
            out_shardings=NamedSharding(mesh, PartitionSpec()),
        )
        self._pending: jax.Array | None = None

    def __call__(self, wishes: list[bool]) -> list[bool]:
        """Which wishes any process had at the last call; of a single process, which it has now."""
        if jax.process_count() == 1:
            return wishes
        rows = np.tile(np.array(wishes, np.int32), (self._mesh.size, 1))
        late = self._pending
        self._pending = self._any(place_on_mesh(rows, self._mesh, "data"))
        return (
            [False] * len(wishes) if late is None else [bool(wish) for wish in np.asarray(late)]
        )
