"""The command line of `tpu`.

Whatever ends the program, the last thing that it prints is the name of what may be left, with the
command that deletes it. Only a kill with SIGKILL or a power cut prevents that: then the hosts' own
deadline (deadline.sh) ends the slice.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import traceback
from pathlib import Path

from calls import Caller, CleaningError, SignalError, TimeLimitError, now
from gcloud import Gcloud
from messages import PreemptedError, UserError, say
from options import USAGE, Options, parse
from slices import Slice
from steps import DELETING, Steps

RETRY = float(os.environ.get("RVC_JAX_RETRY", "10"))  # seconds before a second try
CLEANING = 300  # seconds for deleting, longer while Google is at it
FAILED = 2  # exit code of a mistake
LEFT = 1  # exit code where something may be left


def main(words: list[str]) -> int:
    """Runs a command and returns the exit code."""
    try:
        options = parse(words)
        if options is None:
            print(USAGE)
            return 0
        if not options.dry_run and shutil.which("gcloud") is None:
            raise UserError(
                "gcloud is not installed here: https://cloud.google.com/sdk/docs/install"
            )
        scratch = Path(tempfile.mkdtemp(prefix="rvc-jax-"))
    except (UserError, OSError) as error:
        say(str(error))
        return FAILED
    caller = Caller(now() + options.limit_seconds)
    gcloud = Gcloud(options, caller)
    slice_ = Slice(gcloud, caller.deadline, RETRY, scratch)
    steps = Steps(options, caller, slice_, scratch)
    code = LEFT
    try:
        code = guarded(steps)
    finally:
        left = finish(options, caller, slice_)
        shutil.rmtree(scratch, ignore_errors=True)
        caller.ignore_signals()
        if left:
            code = code or LEFT
            say(left)
    return code


def guarded(steps: Steps) -> int:
    """Runs the command; says why it failed and returns the exit code."""
    options = steps.options
    try:
        return perform(steps)
    except UserError as error:
        say(str(error))
    except PreemptedError:
        say(f"{steps.slice.title} does not exist, or was taken away")
    except SignalError as error:
        return 128 + error.number
    except TimeLimitError:
        if options.command != "delete":
            stop_at_limit(steps)
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror}")
    except Exception:
        say(f"a fault of this program:\n{traceback.format_exc()}")
    return FAILED


def stop_at_limit(steps: Steps) -> None:
    """Saves the training at the time limit."""
    run = steps.options["run"]
    saved = ""
    if steps.trains:
        saved = f": the run is saved at {run}, and the same command continues it"
    try:
        steps.save()
    except CleaningError:
        say("the training did not save in time: its last checkpoint counts")
    say(f"--at-most {steps.options['at-most']} is over{saved}")


def perform(steps: Steps) -> int:
    """Runs the command."""
    options = steps.options
    slice_ = steps.slice
    if options.command in ("run", "setup"):
        steps.require_source()
    steps.gcloud.keep_project()
    if options.command == "run":
        return steps.run()
    if options.command == "create":
        slice_.claim()
        slice_.create()
        slice_.asked = False
        command = delete_command(slice_)
        say(f"{slice_.title} is ready, and costs money until this deletes it: {command}")
    elif options.command == "setup":
        steps.setup()
    elif options.command == "train":
        steps.train(0)
    elif options.command == "fetch":
        steps.fetch()
    elif options.command == "state":
        return steps.state()
    elif options.command == "delete":
        slice_.asked = True
        steps.caller.deadline = now() + DELETING
        slice_.delete()
    else:
        words = {"logs": ("0", "logs", "100"), "stop": ("all", "stop")}[options.command]
        answer = steps.hosts.run(*words)
        return answer.code if answer.code and answer.code > 0 else int(not answer.succeeded)
    return 0


def finish(options: Options, caller: Caller, slice_: Slice) -> str:
    """Deletes what this command created.

    Returns a line about what may be left, with the command that deletes it, or "".
    """
    caller.clean(CLEANING)
    try:
        if slice_.asked and options.command != "delete":
            command = delete_command(slice_)
            say(f"deleting {slice_.title}; if that is cut off, this deletes it: {command}")
            slice_.delete()
    except Exception:
        say(f"a fault of this program:\n{traceback.format_exc()}")
    for name, state in slice_.found_others.items():
        other = delete_command(slice_, name)
        say(f"{name} ({state}), of another command, costs money until this deletes it: {other}")
    command = delete_command(slice_)
    if slice_.asked:
        return (
            f"{slice_.name} MAY STILL BE RUNNING, AND COSTS MONEY (in {options['zone']}, last "
            f"seen as {slice_.last}) until this deletes it: {command}"
        )
    if slice_.may_come:
        return (
            f"the request for {slice_.title} got no answer: it MAY STILL COME, AND COST MONEY. "
            f"This looks for it and deletes it: {command}"
        )
    return ""


def delete_command(slice_: Slice, name: str = "") -> str:
    """The command that deletes a slice."""
    words = [os.environ.get("RVC_JAX_TPU", "tpu"), "delete", name or slice_.name]
    words += ["--zone", slice_.options["zone"]]
    if slice_.gcloud.project:
        words += ["--project", slice_.gcloud.project]
    return shlex.join(words)
