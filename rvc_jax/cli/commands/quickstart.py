"""`rvc-jax quickstart`."""

from __future__ import annotations

from pathlib import Path

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, OptionalInt
from rvc_jax.cli.terminal import print_line
from rvc_jax.storage.environment import start_jax


def quickstart(
    out: Path = Path("rvc_jax_quickstart"), epochs: OptionalInt = None, as_json: Json = False
) -> int:
    """Make a voice of the bundled recordings: prepare them, fine-tune the base voice, convert,
    measure. Takes a few minutes on two CPU cores.

    Args:
        out: Folder for all results. Running the command again continues there.
        epochs: Passes over the speech; by default as many as two cores take in two minutes.
    """
    start_jax()
    from rvc_jax.cli.quickstart import quickstart as run_quickstart

    with Display() as display:
        result = run_quickstart(out, display, epochs)
    if result is None:
        print_line(
            "interrupted; the training is saved, and the same command continues it",
            to_stderr=True,
        )
        return 0
    print_result(result, result.rows(), as_json)
    return 0
