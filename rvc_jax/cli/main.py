"""The command line: the table of commands, and one line for every error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes

from rvc_jax.cli.commands.audit import audit
from rvc_jax.cli.commands.bug_report import bug_report
from rvc_jax.cli.commands.card import card
from rvc_jax.cli.commands.convert import convert
from rvc_jax.cli.commands.doctor import doctor
from rvc_jax.cli.commands.download import download
from rvc_jax.cli.commands.evaluate import evaluate
from rvc_jax.cli.commands.export import export
from rvc_jax.cli.commands.extract import extract
from rvc_jax.cli.commands.fetch import fetch
from rvc_jax.cli.commands.import_ import import_
from rvc_jax.cli.commands.index import index
from rvc_jax.cli.commands.info import info
from rvc_jax.cli.commands.merge import merge
from rvc_jax.cli.commands.plan import plan
from rvc_jax.cli.commands.prepare import prepare
from rvc_jax.cli.commands.quickstart import quickstart
from rvc_jax.cli.commands.report import report
from rvc_jax.cli.commands.serve import serve
from rvc_jax.cli.commands.status import status
from rvc_jax.cli.commands.train import train
from rvc_jax.cli.commands.watch import watch
from rvc_jax.cli.last_log import note, record_command
from rvc_jax.cli.options import replace_old_names, unwrap_docstring
from rvc_jax.cli.terminal import print_line, printable_streams
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import describe_environment_error, silence_libraries
from rvc_jax.storage.signals import InterruptedBySignal, signals_as_exceptions
from rvc_jax.version import __version__

# In the order of the help: from speech to a voice, then what voices are used for.
COMMANDS: dict[str, Callable[..., int]] = {
    "quickstart": quickstart,
    "fetch": fetch,
    "prepare": prepare,
    "audit": audit,
    "plan": plan,
    "train": train,
    "convert": convert,
    "serve": serve,
    "evaluate": evaluate,
    "report": report,
    "status": status,
    "watch": watch,
    "index": index,
    "export": export,
    "merge": merge,
    "extract": extract,
    "card": card,
    "import": import_,
    "download": download,
    "info": info,
    "doctor": doctor,
    "bug-report": bug_report,
}
_NOT_LOGGED = ("info", "status", "watch", "doctor", "bug-report")
"""Commands that one may use after a failure, before the report."""

_MIN_COLUMNS = 20


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code.

    The code is 0, 1 if a part of the work failed, 2 for an error of the user, 130 after Ctrl-C, 143
    after SIGTERM, 129 after SIGHUP.

    Args:
      arguments: the command and its options, by default those of this process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print_line(f"rvc-jax {__version__}")
        return 0
    _make_output_safe()
    silence_libraries()
    threading.excepthook = _report_thread_failure
    sys.excepthook = _report_unexpected_failure
    is_logged = arguments and arguments[0] in COMMANDS and arguments[0] not in _NOT_LOGGED
    recording = record_command(arguments) if is_logged else contextlib.nullcontext()
    try:
        with signals_as_exceptions(), recording, printable_streams(arguments):
            code = _run(arguments)
            note(f"exit code {code}")
            return code
    except InterruptedBySignal as signal:
        return _print_error("interrupted", signal.exit_code)
    except KeyboardInterrupt:
        return _print_error("interrupted", 130)


def _run(arguments: list[str]) -> int:
    try:
        return tyro.extras.subcommand_cli_from_dict(
            {name: unwrap_docstring(command) for name, command in COMMANDS.items()},
            prog="rvc-jax",
            description="Train RVC voices from speech, and convert recordings with them.",
            args=replace_old_names(arguments) or ["--help"],
            config=(OmitArgPrefixes, FlagCreatePairsOff),
        )
    except UserError as error:
        return _print_error(str(error), 2)
    except BrokenPipeError:
        # The reader of our output has closed it. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # tyro has printed the help or the error
        return stop.code if isinstance(stop.code, int) else 2
    except Exception as error:
        text = (
            _find_disk_full(error)
            or _describe_file_error(error)
            or describe_environment_error(error)
            or _describe_memory_error(error)
        )
        import traceback

        note(traceback.format_exc())
        if text is None:
            raise
        return _print_error(text, 2)


def _report_thread_failure(failure: threading.ExceptHookArgs) -> None:
    """Ignore a full disk in a thread: the main thread meets it too, and reports it."""
    if _find_disk_full(failure.exc_value) is None:
        threading.__excepthook__(failure)


def _report_unexpected_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.__excepthook__(kind, error, trace)
    print_line(
        "rvc-jax: this is a fault of the program: `rvc-jax bug-report` prints a text to paste into "
        "an issue",
        to_stderr=True,
    )


def _find_disk_full(error: BaseException | None) -> str | None:
    from rvc_jax.storage.files import disk_full  # imports NumPy, which `--help` does without

    return disk_full(error)


def _describe_file_error(error: BaseException) -> str | None:
    from rvc_jax.storage.files import describe_file_error

    return describe_file_error(error)


def _describe_memory_error(error: BaseException) -> str | None:
    if not isinstance(error, MemoryError):
        return None
    return "there is too little memory: close other programs, or raise the limit (ulimit -v)"


def _make_output_safe() -> None:
    """Print characters that the terminal's encoding lacks as escapes, instead of failing there.

    A terminal's width that makes no sense is not believed: help would be wrapped for ever.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns and not (columns.isdigit() and int(columns) >= _MIN_COLUMNS):
        del os.environ["COLUMNS"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_error(text: str, code: int) -> int:
    note(text)
    print_line(f"rvc-jax: error: {' '.join(text.split())}", to_stderr=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
