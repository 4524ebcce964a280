"""Commands on the hosts of a slice: rvc_jax_host.sh, over gcloud's ssh and scp."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from calls import Answer
from gcloud import last_error
from messages import UserError
from slices import Slice

SCRIPT = Path(__file__).resolve().parents[1] / "rvc_jax_host.sh"
# Seconds that a command on the hosts may take; a training of hours is followed by asking.
LIMITS = {
    "copy": 900,
    "install": 3600,
    "start": 300,
    "state": 120,
    "stop": 300,
    "tail": 90,
    "export": 7200,
}
STATE = re.compile(r"training: (running|gone|ended [0-9]{1,3})", re.ASCII)
UNKNOWN = "unknown"


class Hosts:
    """The hosts of a slice."""

    def __init__(self, slice_: Slice) -> None:
        self.slice = slice_
        self.gcloud = slice_.gcloud
        self.error = ""  # why the last state is unknown

    def run(self, which: str, *words: str, shows: bool = True) -> Answer:
        """Runs rvc_jax_host.sh with these words. which: all, or the number of one host."""
        line = shlex.join(["bash", "rvc_jax_host.sh", *words])
        limit = LIMITS.get(words[0], self.gcloud.options.limit_seconds)
        return self.gcloud.tpus(
            "tpu-vm",
            "ssh",
            self.slice.name,
            f"--worker={which}",
            f"--command={line}",
            limit=limit,
            shows=shows,
        )

    def copy(self, *files: Path) -> Answer:
        """Copies the files and the script to the home folder of every host."""
        return self.gcloud.tpus(
            "tpu-vm",
            "scp",
            str(SCRIPT),
            *map(str, files),
            f"{self.slice.name}:",
            "--worker=all",
            limit=LIMITS["copy"],
            shows=True,
        )

    def training(self, hosts: int) -> str:
        """The state of the training: running, gone, ended CODE, or unknown.

        Every host must say its state in exactly one line. hosts: how many there are; where that is
        not known (0), no other line may be there either.
        """
        answer = self.run("all", "state", shows=False)
        if self.gcloud.options.dry_run:
            return "ended 0"
        lines = [line.strip() for line in answer.out.splitlines() if line.strip()]
        matches = [STATE.fullmatch(line) for line in lines]
        states = [match[1] for match in matches if match]
        complete = len(states) == hosts if hosts else bool(states) and all(matches)
        if not answer.succeeded:
            self.error = last_error(answer)
            return UNKNOWN
        if not complete:
            self.error = (
                f"{len(states)} of {hosts or 'the'} hosts said the state of the training"
            )
            return UNKNOWN
        return summary(states)


def summary(states: list[str]) -> str:
    """One state for all hosts: a failure first, then gone, running, and the end."""
    failed = [state for state in states if state.startswith("ended") and state != "ended 0"]
    for state in (*failed, "gone", "running"):
        if state in states:
            return state
    return "ended 0"


def require(answer: Answer, slice_: Slice, what: str) -> None:
    """Raises if the answer is a failure.

    Raises:
        PreemptedError: because the slice is gone.
        UserError: for another reason.
    """
    if answer.succeeded:
        return
    slice_.require_there()
    why = "it took too long" if answer.code is None else "the error is shown above"
    raise UserError(f"{what} failed on {slice_.title}: {why}")
