"""Run command lines in one process, and record what each of them contacts, imports, starts and
writes.

python walk.py CASES.json RESULT.json

CASES.json: {"allowed": [folders that may be written to], "cases": [[name, [argument, ...]], ...]}
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import signal
import sys
import sysconfig
import time
import traceback
from pathlib import Path

SECONDS = 60
"""Limit of one command."""
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile")

events: list[str] = []
allowed: list[str] = []


def record(event: str, arguments: tuple) -> None:
    if event in _NETWORK:
        if event == "socket.connect" and isinstance(arguments[1], (str, bytes)):
            return  # a socket of this machine, such as nscd's
        if event == "socket.getaddrinfo" and _is_number(arguments[0]):
            return  # nobody is asked
        events.append(
            f"{event} {arguments[-1] if event == 'socket.connect' else arguments[:2]}"
        )
        raise ConnectionRefusedError("the walk has no network")
    if event in _PROGRAMS:
        if "ldconfig" in str(arguments[0]):
            return  # ctypes.util looks for a library
        events.append(f"{event} {arguments[:2]}")
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not _writes(mode, flags):
            return
        place = os.path.realpath(os.fsdecode(path))
        if place != "/dev/null" and not place.startswith(tuple(allowed)):
            events.append(f"writes {place}")
    elif event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree"):
        name = os.fsdecode(arguments[0])
        is_relative = not Path(name).is_absolute() and any(
            type(folder) is int and folder >= 0 for folder in arguments[1:]
        )
        place = os.path.realpath(name)
        # Names within an open folder are those of `shutil.rmtree`, which is recorded itself.
        if not is_relative and not place.startswith(tuple(allowed)):
            events.append(f"{event} {place}")


def _is_number(host: object) -> bool:
    try:
        ipaddress.ip_address(host if isinstance(host, str) else str(host, "ascii"))
    except (ValueError, TypeError):
        return host is None
    return True


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def foreign_modules(before: set[str]) -> list[str]:
    """New modules that are neither Python's, nor of an installed package, nor ours."""
    paths = sysconfig.get_paths()
    places = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]]
    places += [
        str(Path(__file__).parents[2] / "rvc_jax"),
        *json.loads(os.environ["WALK_LIBRARIES"]),
    ]
    found = []
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        is_own = name == "__mp_main__" or not Path(file or "").is_absolute()
        if (
            file
            and not is_own
            and not os.path.realpath(file).startswith(tuple(map(os.path.realpath, places)))
        ):
            found.append(f"imports {name} from {file}")
        if name.endswith("__main__") and name != "__main__":
            found.append(f"imports {name}")
    return found


def stop(*_: object) -> None:
    raise TimeoutError("the command took too long")


def run(arguments: list[str]) -> dict:
    from rvc_jax.cli.main import main

    events.clear()
    before = set(sys.modules)
    printed = io.StringIO()
    failure = ""
    code = None
    begin = time.monotonic()
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main(arguments)
        except BaseException:
            failure = traceback.format_exc()
    signal.alarm(0)
    return {
        "code": code,
        "failure": failure,
        "events": [*events, *foreign_modules(before)],
        "printed": printed.getvalue(),
        "seconds": time.monotonic() - begin,
    }


def walk() -> None:
    work = json.loads(Path(sys.argv[1]).read_text())
    allowed.extend(map(os.path.realpath, work["allowed"]))
    # Modules of a folder that a user may be in, as for `python -m rvc_jax`.
    sys.path.insert(0, "")
    sys.addaudithook(record)
    results = {name: run(arguments) for name, arguments in work["cases"]}
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    walk()
