"""Commands of `rvc-jax` as processes of their own: followed while they run, stopped as Ctrl-C stops
them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError

_ERROR = "rvc-jax: error: "
_LAST_LINES = 3
Listener = Callable[[dict[str, Any]], None]


class NotebookError(UserError):
    """A UserError that a notebook shows as its one line. The cells below do not run then."""

    def _render_traceback_(self) -> list[str]:
        """Asked for by IPython."""
        return [f"\x1b[31m{self}\x1b[0m"]


class Program:
    """`rvc-jax` of one Python, in one environment."""

    def __init__(self, python: Path | str, environment: Mapping[str, str]):
        self.python = str(python)
        self.environment = dict(environment)

    def run(
        self,
        *arguments: object,
        listen: Listener,
        interrupted: Callable[[], None] = lambda: None,
    ) -> Any:
        """Runs a command and returns what it prints with --json.

        Args:
          arguments: the command and its options, without --json.
          listen: is told what the command says: {"event": ..., ...}, or {"event": "line", "text":
              ...}.
          interrupted: is called when the user stops the cell. The command is told to end, and is
              waited for.

        Raises:
          UserError: with the command's own line, if it failed.
          KeyboardInterrupt: if the user stopped a command that does not end well by it.
        """
        command = [self.python, "-P", "-m", "rvc_jax", *map(str, arguments), "--json"]
        with tempfile.TemporaryFile("w+") as output:
            code, said, stopped = self._follow(command, output, listen, interrupted)
            output.seek(0)
            printed = output.read()
        if code == 0:
            return json.loads(printed)
        if stopped:
            raise KeyboardInterrupt
        raise UserError(_reason(said) or f"{arguments[0]} ended with code {code}")

    def evaluate(self, code: str) -> str:
        """The last line that a few words of Python print there. Raises UserError with what went
        wrong."""
        done = subprocess.run(
            [self.python, "-P", "-c", code],
            capture_output=True,
            text=True,
            env=self.environment,
        )
        if done.returncode:
            raise UserError((done.stderr.strip().splitlines() or ["no answer"])[-1])
        return done.stdout.strip().splitlines()[-1]

    def _follow(
        self,
        command: Sequence[str],
        output: Any,
        listen: Listener,
        interrupted: Callable[[], None],
    ) -> tuple[int, list[str], bool]:
        """Exit code, the last lines of standard error, and whether the user stopped it."""
        said: list[str] = []
        stopped = False
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=self.environment,
            process_group=0,  # a stopped cell signals its whole group: we pass that on, once
        )
        with process:
            while True:
                try:
                    for line in process.stderr:
                        said = [*said[-_LAST_LINES:], line.strip()]
                        listen(_event(line.strip()))
                    return process.wait(), said, stopped
                except KeyboardInterrupt:
                    process.send_signal(signal.SIGTERM if stopped else signal.SIGINT)
                    stopped = True
                    interrupted()
                except BaseException:
                    process.terminate()
                    raise


def _event(line: str) -> dict[str, Any]:
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return {"event": "line", "text": line}


def _reason(said: Sequence[str]) -> str:
    """Our own line about a mistake, or the last that a failed command said."""
    for line in reversed(said):
        if line.startswith(_ERROR):
            return line.removeprefix(_ERROR)
    return next((line for line in reversed(said) if line), "")
