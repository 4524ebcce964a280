"""`rvc-jax bug-report`."""

from __future__ import annotations

from rvc_jax.cli.terminal import print_lines


def bug_report() -> int:
    """Print a text to paste into an issue: versions, devices, variables, the last command's log.
    Names, folders, links and passwords are left out or shortened; read it before you post it.
    """
    from rvc_jax.cli.bug_report import write_report

    print_lines(write_report())
    return 0
