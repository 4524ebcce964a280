"""`tpu`: trains a voice on a TPU slice of Google Cloud, and deletes the slice afterwards."""

import os
import signal
import sys


def start() -> int:
    """Runs the command line and returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `Caller` takes the signals
    if sys.version_info < (3, 9):  # noqa: UP036 (a laptop's own Python may be old)
        sys.stderr.write("tpu: Python 3.9 or newer is needed\n")
        return 2
    # Closed streams would give their numbers to other files.
    while os.open(os.devnull, os.O_RDWR) < 3:
        pass
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    from commands import main

    return main(sys.argv[1:])


sys.exit(start())
