"""The command line. Options are the fields of the configurations; a command imports the heavy
packages it needs."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import platform
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from rvc_jax.cli import after_training as at_ends
from rvc_jax.cli.commands.audit import audit
from rvc_jax.cli.commands.card import card
from rvc_jax.cli.commands.convert import convert
from rvc_jax.cli.commands.download import download
from rvc_jax.cli.commands.evaluate import evaluate
from rvc_jax.cli.commands.export import export
from rvc_jax.cli.commands.extract import extract
from rvc_jax.cli.commands.fetch import fetch
from rvc_jax.cli.commands.import_ import import_
from rvc_jax.cli.commands.index import index
from rvc_jax.cli.commands.inspect import inspect
from rvc_jax.cli.commands.merge import merge
from rvc_jax.cli.commands.plan import plan
from rvc_jax.cli.commands.prepare import prepare
from rvc_jax.cli.commands.report import report, write_report_of_run
from rvc_jax.cli.commands.serve import serve
from rvc_jax.cli.commands.status import status, watch
from rvc_jax.cli.display import Display, format_drop, print_result
from rvc_jax.cli.options import (
    AtEnd,
    Json,
    OptionalInt,
    Place,
    Preset,
    TrainOptions,
    replace_old_options,
)
from rvc_jax.config import PRESETS, ClusterConfig
from rvc_jax.errors import UserError, make_printable
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import silence_libraries, start_jax
from rvc_jax.version import __version__


def quickstart(
    out: Path = Path("rvc_jax_quickstart"), epochs: OptionalInt = None, as_json: Json = False
) -> int:
    """Prepare, train, measure and use the bundled voice: the whole way, in a few minutes on two CPU
    cores.

    Args:
        out: Folder for everything that is made; running again continues there.
        epochs: Passes over the speech; the preset's own number if not given.
    """
    start_jax()
    from rvc_jax.cli.quickstart import quickstart as run_quickstart

    with Display() as display:
        result = run_quickstart(out, display, epochs)
    if result is None:
        print(
            "interrupted; the training is saved, and the same command continues it",
            file=sys.stderr,
        )
        return 0
    print_result(result, result.rows(), as_json)
    return 0


def train(
    dataset: Place,
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    recipe: TrainOptions,
    cluster: ClusterConfig,
    preset: Preset = None,
    at_end: AtEnd = "nothing",
    progress: Literal["auto", "lines", "json"] = "auto",
    as_json: Json = False,
) -> int:
    """Train a voice on a dataset, or continue a run. Ctrl-C saves and ends; the same command
    continues.

    Args:
        dataset: Folder made by `rvc-jax prepare`, also at gs:// or s3://.
        run: Folder of the run: settings, checkpoints, curves, report. Also at gs:// or s3://.
        preset: Voice format; the dataset's own if not given.
        at_end: What to do when the training is finished or its budget used up, after everything is
            saved: nothing; exit (end the process at once, also in a notebook); shutdown (switch the
            machine off, or all that took part); or a command for the shell, of the first process.
        progress: How progress is told, on standard error. auto: a line that is renewed on a
            terminal, lines elsewhere; json: an object per line.
    """
    at_ends.check_action(at_end)
    start_jax()
    from rvc_jax.runs.upload import sync_run
    from rvc_jax.storage import places
    from rvc_jax.train.distributed import broadcast_from_first, is_first, join, leave
    from rvc_jax.train.loop import train as run_train

    join(cluster)
    with Display(progress) as display, contextlib.ExitStack() as stack:
        folder = Path(
            broadcast_from_first(lambda: str(stack.enter_context(sync_run(run, display))))
        )
        given = {
            name: value
            for name, value in dataclasses.asdict(recipe).items()
            if value is not None
        }
        result = run_train(dataset, folder, PRESETS[preset] if preset else None, given, display)
        first = broadcast_from_first(platform.node)
        leave()
        if not is_first():
            return at_ends.run_action_on_other_machine(at_end, first) if result.has_ended else 0
        if result.has_ended:
            display.message("writing the report")
            write_report_of_run(folder, dataset)
    result = dataclasses.replace(result, run=run)
    ending = (
        "interrupted; the same command continues"
        if result.interrupted
        else result.stopped or "finished"
    )
    if result.used_up:
        ending = "the budget is used up; the same command with a larger one continues"
    error = None
    if result.holdout_before is not None:
        error = f"{result.holdout_before:.3f} at the start, {result.holdout_after:.3f} for the best voice"
    rows = [
        ("run", f"{run} ({ending})"),
        ("steps", f"{result.steps} ({result.steps - result.resumed_from} of them now)"),
        (
            "speed",
            f"{result.steps_per_second:.2f} steps/s"
            if result.steps_per_second
            else "too few steps to tell",
        ),
        ("hold-out log-mel error", error or "the dataset has no hold-out"),
    ]
    rows += [("outlook", sentence) for sentence in result.outlook]
    if result.spent:
        rows.append(("budget", result.spent))
    if result.skipped:
        rows.append(("skipped", f"{result.skipped} steps without a finite loss and gradient"))
    if result.has_ended:
        rows.append(("report", str(places.join(run, "report.html"))))
    print_result(result, rows, as_json)
    return at_ends.run_action(at_end) if result.has_ended else 0


def info(
    path: Annotated[Positional[str], tyro.conf.arg(metavar="PATH")], as_json: Json = False
) -> int:
    """Tell what something is: a dataset, a run, a voice, a retrieval index, a recording, a PyTorch
    file.

    Args:
        path: File or folder; of a run or a dataset also at gs:// or s3://.
    """
    from rvc_jax.cli.describe import describe

    described = describe(path)
    rows = []
    for name, value in described.items():
        if name == "dropped":
            rows += [("dropped", format_drop(drop)) for drop in value]
        elif name != "config":
            rows.append(
                (
                    name.replace("_", " "),
                    format_bytes(value) if name == "bytes" else _figure_text(value),
                )
            )
    print_result(described, rows, as_json)
    return 0


def doctor(as_json: Json = False) -> int:
    """Check that everything the program needs is here and works."""
    from rvc_jax.cli.doctor import run_checks

    checks = []
    for check in run_checks():
        checks.append(check)
        if not as_json:
            mark = "yes" if check.ok else "NO" if check.essential else "no"
            print(f"{mark:<4} {check.name:<22} {check.detail}", flush=True)
    broken = [check.name for check in checks if check.essential and not check.ok]
    if as_json:
        print_result(
            {"ok": not broken, "checks": [check._asdict() for check in checks]}, [], as_json
        )
    else:
        print(f"broken: {', '.join(broken)}" if broken else "everything essential works")
    return 1 if broken else 0


COMMANDS = {
    function.__name__: function
    for function in (
        quickstart,
        fetch,
        prepare,
        audit,
        inspect,
        plan,
        train,
        convert,
        serve,
        evaluate,
        report,
        status,
        watch,
        index,
        export,
        merge,
        extract,
        card,
        import_,
        download,
        info,
        doctor,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0, 1 (some of it failed), 2 (the user's mistake) or
    130 (Ctrl-C)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"rvc-jax {__version__}")
        return 0
    silence_libraries()
    threading.excepthook = _thread_failed
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="rvc-jax",
            description="Train a voice from speech, and speak in it.",
            args=replace_old_options(arguments) or ["--help"],
            config=(OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except UserError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # whoever reads our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except SystemExit as stop:  # tyro has printed the help or what was wrong
        return stop.code if isinstance(stop.code, int) else 2
    except Exception as error:
        if (text := _disk_full(error)) is None:
            raise
        return _fail(text, 2)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """A thread that writes to a full disk is passed over: the main thread meets the same and tells
    of it."""
    if _disk_full(failure.exc_value) is None:
        threading.__excepthook__(failure)


def _disk_full(error: BaseException | None) -> str | None:
    """What to say if a full disk is the error or a cause of it, in whoever's words; None if it is
    not."""
    found = None
    while error is not None:
        text = str(error)
        file = getattr(error, "filename", None) or "a file could not be written"
        of_numpy = (
            isinstance(error, OSError) and "requested and" in text and text.endswith("written")
        )
        if isinstance(error, UserError) and text.startswith("disk full"):
            return text
        if (
            getattr(error, "errno", None) == errno.ENOSPC
            or "No space left on device" in text
            or of_numpy
        ):
            found = (
                found or f"disk full: {file}; free some space and run the same command again"
            )
        error = error.__cause__ or error.__context__
    return found


def _fail(text: str, code: int) -> int:
    print(f"rvc-jax: error: {make_printable(' '.join(text.split()))}", file=sys.stderr)
    return code


def _figure_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


if __name__ == "__main__":
    sys.exit(main())
