"""Processes wait for each other before JAX connects them: its own way to give up on a peer is to
end the process."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from rvc_jax.errors import UserError

_NUMBER = struct.Struct("!I")
_GO = b"go"


def wait_for_all(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Returns when all processes are there. The first (0) listens at the coordinator's port, the
    others call it.

    Raises:
      UserError: if the coordinator is not HOST:PORT, the port is taken, or somebody does not come
          in so many seconds.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--coordinator must be HOST:PORT, not {coordinator!r}")
    if not 0 <= process < processes:
        raise UserError(f"--process must be from 0 to {processes - 1}, not {process}")
    until = time.monotonic() + seconds
    if process == 0:
        _accept_all(int(port), processes, seconds, until)
    else:
        _connect_to_first(host, int(port), process, seconds, until)


def _accept_all(port: int, processes: int, seconds: float, until: float) -> None:
    callers: dict[int, socket.socket] = {}
    try:
        with contextlib.ExitStack() as opened:
            server = opened.enter_context(socket.create_server(("", port)))
            while len(callers) < processes - 1:
                server.settimeout(max(until - time.monotonic(), 0.01))
                caller = opened.enter_context(server.accept()[0])
                caller.settimeout(1.0)
                with contextlib.suppress(OSError, struct.error):
                    (number,) = _NUMBER.unpack(caller.recv(_NUMBER.size))
                    if 0 < number < processes:
                        callers[number] = caller
            for caller in callers.values():
                caller.sendall(_GO)
    except TimeoutError:
        absent = ", ".join(
            str(number) for number in range(1, processes) if number not in callers
        )
        raise UserError(
            f"not all of {processes} processes came in {seconds:g} s; absent: {absent}"
        ) from None
    except OSError as error:
        raise UserError(
            f"no process can be waited for at port {port}: {error.strerror or error}"
        ) from error


def _connect_to_first(host: str, port: int, process: int, seconds: float, until: float) -> None:
    while time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, port), timeout=2.0) as first,
        ):
            first.sendall(_NUMBER.pack(process))
            first.settimeout(max(until - time.monotonic(), 0.01))
            if first.recv(len(_GO)) == _GO:
                return
        time.sleep(0.2)
    raise UserError(
        f"the first of the processes did not answer at {host}:{port} in {seconds:g} s, or lacked others"
    )
