"""Runs commands of `rvc-jax` as processes of their own, and follows them.

A stopped cell stops its command as Ctrl-C would.
"""

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
_KEPT_LINES = 4
OnEvent = Callable[[dict[str, Any]], None]


class NotebookError(UserError):
    """An error that a notebook shows as one line. The cells below do not run then."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback."""
        return [f"\x1b[31m{self}\x1b[0m"]


class Program:
    """The `rvc-jax` of a given Python, in a given environment."""

    def __init__(self, python: Path | str, environment: Mapping[str, str]):
        self.python = str(python)
        self.environment = dict(environment)

    def run(
        self,
        *arguments: object,
        on_event: OnEvent,
        on_interrupt: Callable[[], None] = lambda: None,
    ) -> Any:
        """Run a command and return what it prints with `--json`.

        Args:
          arguments: the command and its options, without `--json`.
          on_event: called with every line of the command's standard error: the object of a JSON
            line, `{"event": ..., ...}`, or `{"event": "line", "text": ...}`.
          on_interrupt: called when the user stops the cell. The command is interrupted, and runs
            until it has saved its work.

        Raises:
          UserError: the command failed; the message is its own.
          KeyboardInterrupt: the user stopped a command that cannot end early with a result.
        """
        command = [self.python, "-P", "-m", "rvc_jax", *map(str, arguments), "--json"]
        with tempfile.TemporaryFile("w+") as output:
            code, last_lines, was_stopped = self._follow(
                command, output, on_event, on_interrupt
            )
            output.seek(0)
            printed = output.read()
        if code == 0:
            return json.loads(printed)
        if was_stopped:
            raise KeyboardInterrupt
        raise UserError(_find_reason(last_lines) or f"{arguments[0]} ended with code {code}")

    def evaluate(self, code: str) -> str:
        """Run Python code there and return the last line that it prints. Raises UserError."""
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
        on_event: OnEvent,
        on_interrupt: Callable[[], None],
    ) -> tuple[int, list[str], bool]:
        """Return exit code, last lines of standard error, and whether the user stopped it."""
        last_lines: list[str] = []
        was_stopped = False
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=self.environment,
            # A stopped cell signals its whole process group: we pass the signal on ourselves, once.
            process_group=0,
        )
        assert process.stderr is not None
        with process:
            while True:
                try:
                    for line in process.stderr:
                        last_lines = [*last_lines, line.strip()][-_KEPT_LINES:]
                        on_event(_parse_event(line.strip()))
                    return process.wait(), last_lines, was_stopped
                except KeyboardInterrupt:
                    # A second stop is meant seriously.
                    process.send_signal(signal.SIGTERM if was_stopped else signal.SIGINT)
                    was_stopped = True
                    on_interrupt()
                except BaseException:
                    process.terminate()
                    raise


def _parse_event(line: str) -> dict[str, Any]:
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return {"event": "line", "text": line}


def _find_reason(last_lines: Sequence[str]) -> str:
    """Return the command's own error message, or the last line that it printed."""
    for line in reversed(last_lines):
        if line.startswith(_ERROR):
            return line.removeprefix(_ERROR)
    return next((line for line in reversed(last_lines) if line), "")
