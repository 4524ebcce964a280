"""Several processes that train one voice: how they find each other, and what they share.

All of them run the same program on their part of every batch. The first one alone writes the run's
folder, measures the hold-out and reports. Functions here that communicate are collective: every
process must call them, in the same order.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvc_jax.config import ClusterConfig
from rvc_jax.errors import UserError, describe_os_error

_METADATA_URL = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
_MAX_ERROR_BYTES = 1000
"""Longest error text that one process sends to the others."""
_PROCESS_NUMBER = struct.Struct("!I")
_GO = b"go"

Value = TypeVar("Value")

# MARK: joining


def join(cluster: ClusterConfig) -> None:
    """Make this process one of several, if it is meant to be; call it before JAX computes anything.

    On TPU slices of several hosts, under Slurm and under Open MPI, the environment says which
    processes belong together; elsewhere `cluster` does.

    Raises:
        UserError: The others can't be found, or only a part of `cluster` is given.
    """
    if cluster.processes < 0:
        raise UserError(f"--processes must be at least 0, not {cluster.processes}")
    given = (bool(cluster.coordinator), cluster.processes > 1, cluster.process >= 0)
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --processes (at least 2) and --process go together: give all three, "
            "or none"
        )
    if not any(given) and (cluster.processes == 1 or not has_peers()):
        return
    address: dict[str, Any] = {}  # without one, JAX asks the environment
    if all(given):
        address = {
            "coordinator_address": cluster.coordinator,
            "num_processes": cluster.processes,
            "process_id": cluster.process,
        }
        # JAX ends the process when a peer does not come; this raises a UserError that names it.
        wait_for_all(
            cluster.coordinator, cluster.processes, cluster.process, cluster.join_seconds
        )
    try:
        jax.distributed.initialize(**address, initialization_timeout=cluster.join_seconds)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(f"the processes can't be connected: {reason}") from error


def leave() -> None:
    """Wait for the other processes to finish, and disconnect from them."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def has_peers() -> bool:
    """Return whether the environment says that there are other processes."""
    counts = (os.environ.get(name, "1") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    if any(count.isdigit() and int(count) > 1 for count in counts):
        return "SLURM_STEP_NODELIST" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ
    if hosts := os.environ.get("TPU_WORKER_HOSTNAMES"):
        return "," in hosts
    devices = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    # Only a TPU machine is asked: elsewhere, the address takes seconds to fail.
    return bool(devices) and "," in _read_metadata()


def _read_metadata() -> str:
    """Ask a TPU machine for the addresses of its slice's hosts, separated by commas; "" if none."""
    request = urllib.request.Request(_METADATA_URL, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read(1 << 20).decode()
    except (OSError, ValueError):
        return ""


# MARK: waiting


def wait_for_all(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Return when all processes have come.

    The first one (0) listens at the coordinator's port, and the others connect to it.

    Args:
        coordinator: HOST:PORT of the first process.
        processes: How many there are.
        process: Number of this one.
        seconds: How long to wait.

    Raises:
        UserError: The coordinator is not HOST:PORT, the port is taken, or a process does not come
            in time.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--coordinator must be HOST:PORT, not {coordinator!r}")
    if not 0 <= process < processes:
        raise UserError(f"--process must be from 0 to {processes - 1}, not {process}")
    deadline = time.monotonic() + seconds
    if process == 0:
        _accept_all(int(port), processes, seconds, deadline)
    else:
        _connect_to_first(host, int(port), process, seconds, deadline)


def _accept_all(port: int, processes: int, seconds: float, deadline: float) -> None:
    callers: dict[int, socket.socket] = {}
    try:
        with contextlib.ExitStack() as opened:
            server = opened.enter_context(socket.create_server(("", port)))
            while len(callers) < processes - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                caller = opened.enter_context(server.accept()[0])
                caller.settimeout(1.0)
                # Port scanners connect, too: what sends no number is ignored.
                with contextlib.suppress(OSError, struct.error):
                    (number,) = _PROCESS_NUMBER.unpack(caller.recv(_PROCESS_NUMBER.size))
                    if 0 < number < processes:
                        callers[number] = caller
            for caller in callers.values():
                caller.sendall(_GO)
    except TimeoutError:
        numbers = range(1, processes)
        absent = ", ".join(str(number) for number in numbers if number not in callers)
        raise UserError(
            f"not all of {processes} processes came in {seconds:g} s; absent: {absent}"
        ) from None
    except OSError as error:
        raise UserError(
            f"no process can be waited for at port {port}: {describe_os_error(error)}"
        ) from error


def _connect_to_first(
    host: str, port: int, process: int, seconds: float, deadline: float
) -> None:
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, port), timeout=2.0) as first,
        ):
            first.sendall(_PROCESS_NUMBER.pack(process))
            first.settimeout(max(deadline - time.monotonic(), 0.01))
            if first.recv(len(_GO)) == _GO:
                return
        time.sleep(0.2)
    raise UserError(
        f"the first of the processes did not answer at {host}:{port} in {seconds:g} s, or lacked "
        "others"
    )


# MARK: agreeing


def is_first() -> bool:
    """Return whether this process writes the run and reports."""
    return jax.process_index() == 0


def broadcast_from_first(make: Callable[[], Value]) -> Value:
    """Call `make` in the first process only, and return its value in all of them.

    Args:
        make: Returns a value that JSON can hold.

    Raises:
        Exception: In the first process, what `make` raises; in the others, a UserError with the
            same text.
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
    # The length first: all processes must pass arrays of one shape.
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(length, np.uint8)
    padded[: len(text)] = text[:length]
    answer = json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
    if failure is not None:  # raised only now, so that the others are not left waiting
        raise failure
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["value"]


def run_in_all(make: Callable[[], Value]) -> Value:
    """Call `make` in every process, and return its value once all have succeeded.

    Raises:
        UserError: `make` raised one in any process: here its own, or else that of the first process
            that failed.
    """
    if jax.process_count() == 1:
        return make()
    value: Any = None
    failure: UserError | None = None
    try:
        value = make()
    except UserError as error:
        failure = error
    text = str(failure or "").encode()[:_MAX_ERROR_BYTES]
    padded = np.zeros(_MAX_ERROR_BYTES, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    if failure is not None:
        raise failure
    for process, row in enumerate(rows):
        if row.any():
            reason = bytes(row).rstrip(bytes(1)).decode(errors="replace")
            raise UserError(f"process {process}: {reason}")
    return value


class AsyncAnyReduce:
    """OR of per-process flags, reduced asynchronously.

    Each call returns the result of the previous call, so nobody blocks, and all processes see a
    flag in the same step.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        replicated = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(lambda flags: jnp.max(flags, axis=0), out_shardings=replicated)
        self._pending: jax.Array | None = None

    def __call__(self, flags: list[bool]) -> list[bool]:
        """Return which flags any process had at the previous call; alone, the flags themselves."""
        if jax.process_count() == 1:
            return flags
        rows = np.tile(np.array(flags, np.int32), (self._mesh.size, 1))
        previous = self._pending
        self._pending = self._any(place_on_mesh(rows, self._mesh, "data"))
        if previous is None:
            return [False] * len(flags)
        return [bool(flag) for flag in np.asarray(previous)]


# MARK: arrays


def place_on_mesh(array: np.ndarray, mesh: Mesh, *axes: str | None) -> jax.Array:
    """Divide an array that every process has along the named axes of the mesh.

    Each process sends its devices their part.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(tree: Any, shapes: Any, mesh: Mesh) -> Any:
    """Copy the first process's arrays to every device of all processes.

    Args:
        tree: The arrays; None in the other processes.
        shapes: Their shapes, in every process.
        mesh: The devices.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    if tree is None:
        tree = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes)
    arrays = multihost_utils.broadcast_one_to_all(tree)
    state = jax.tree.map(lambda array: place_on_mesh(np.asarray(array), mesh), arrays)
    _connect_devices(mesh)
    return state


def _connect_devices(mesh: Mesh) -> None:
    """Add a number of every device.

    Otherwise the first training step would connect the devices. Some processes come to it long
    before the others have compiled it, and waiting for a connection has a time limit.
    """
    ones = place_on_mesh(np.ones(mesh.size, np.float32), mesh, "data")
    add = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    jax.block_until_ready(add(ones))


def localize(tree: Any) -> Any:
    """Return replicated arrays as one of this process's devices has them, to compute with alone."""
    return jax.tree.map(
        lambda array: array.addressable_data(0) if isinstance(array, jax.Array) else array,
        tree,
    )
