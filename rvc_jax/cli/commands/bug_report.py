"""`rvc-jax bug-report`."""

from __future__ import annotations


def bug_report() -> int:
    """Print a text to paste into an issue: versions, devices, variables, the last command's log.
    Names, folders, links and passwords are left out or shortened; read it before you post it.
    """
    from rvc_jax.cli.bug_report import write_report

    print(write_report())
    return 0
