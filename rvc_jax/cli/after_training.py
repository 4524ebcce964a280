"""What `rvc-jax train --at-end` does when training is complete."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

from rvc_jax.cli.terminal import print_line
from rvc_jax.errors import UserError


def check_action(at_end: str) -> None:
    """Check before hours of training that the action will be possible. Raises UserError."""
    if not at_end.strip():
        raise UserError("--at-end is empty: name nothing, exit, shutdown, or a command")
    if at_end != "shutdown":
        return
    if shutil.which("shutdown") is None:
        raise UserError(
            "--at-end shutdown: this machine has no command called shutdown; "
            "give one of your own"
        )
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        raise UserError(
            '--at-end shutdown needs root; give a command, such as "sudo -n shutdown -h now"'
        )


def run_action(at_end: str) -> int:
    """Run the action and return the exit code: the command's own, else 0."""
    if at_end == "nothing":
        return 0
    sys.stdout.flush()
    sys.stderr.flush()
    if at_end == "exit":
        os._exit(0)  # without cleaning up: in a notebook, threads of the kernel would stay
    if at_end == "shutdown":
        at_end = "shutdown /s /t 0" if sys.platform == "win32" else "shutdown -h now"
    print_line(f"at the end: {at_end}", to_stderr=True)
    # A shell, because the user writes a shell command.
    code = subprocess.run(at_end, shell=True, check=False).returncode
    if code:
        print_line(
            f"the command at the end failed with exit code {code}; the training is saved",
            to_stderr=True,
        )
    return code if 0 <= code < 256 else 1


def run_action_on_other_machine(at_end: str, first: str) -> int:
    """Run the action in a process that is not the first: only `shutdown`, and only elsewhere.

    Args:
      at_end: the action.
      first: name of the machine of the first process, which turns its own machine off.
    """
    if at_end == "shutdown" and platform.node() != first:
        return run_action(at_end)
    return 0
