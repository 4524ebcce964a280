"""Runs launch/gcp/driver in processes forked from this one: its imports are paid once.

Usage: python forked_driver.py DRIVER. Each line of standard input is a JSON object (words,
environment, folder, output); the answers are the process ID and then the exit code, which is
negative after a signal, a line each.
"""

import json
import os
import sys

sys.path.insert(0, sys.argv[1])

from commands import main


def run(job):
    """Runs the driver in this process, which ends with it."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(output, number)
    code = 70
    try:
        code = main(job["words"])
    finally:
        sys.stdout.flush()
        os._exit(code)


for line in sys.stdin:
    process = os.fork()
    if process == 0:
        run(json.loads(line))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
