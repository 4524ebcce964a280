"""Commands of gcloud, and what its answers mean.

States come from `--format=json` and an exit code of 0 only, and absence from the error code
NOT_FOUND in its place in the message. Free text serves for hints, never for decisions.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from calls import Answer, Caller
from options import Options

# The message of an error of the API: the command that failed, the code, the text.
ERROR = re.compile(r"\((gcloud[a-z.-]*)\) ([A-Z][A-Z_]+): (.*)", re.DOTALL)
# gcloud prints errors as JSON, one object a line.
STRUCTURED = {
    "CLOUDSDK_CORE_SHOW_STRUCTURED_LOGS": "always",
    "CLOUDSDK_CORE_VERBOSITY": "warning",
}
PROJECT = r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
# Kinds of refusals: the first one whose pattern is found in the error counts.
REFUSALS = {
    "quota": r"quota",
    "capacity": r"no more capacity|insufficient (reserved )?capacity|stockout|RESOURCE_EXHAUSTED"
    r"|not enough resources",
    "exists": r"ALREADY_EXISTS|already exists",
    "disabled": r"SERVICE_DISABLED|has not been used in project|API .*not enabled",
    "login": r"active account|reauthentication|invalid_grant",
    "project": r"required property \[project\]|\[project\] is not",
    "zone": r"accelerator.?type.*(not found|not available|invalid|unknown)"
    r"|location .*(not found|unsupported)|invalid.*zone",
    "rights": r"PERMISSION_DENIED|permission .*denied|forbidden|403",
    "network": r"unreachable|timed? ?out|connection|resolve|network|UNAVAILABLE|503",
}


class Gcloud:
    """Runs gcloud for one project, in one zone. With --dry-run it prints the commands instead."""

    def __init__(self, options: Options, caller: Caller) -> None:
        self.options = options
        self.caller = caller
        self.project = options["project"]

    def keep_project(self) -> None:
        """Stays with the current project, even if it is changed in another terminal."""
        if self.project or self.options.dry_run:
            return
        answer = self.caller.run(["gcloud", "config", "get-value", "project", "--quiet"], 60)
        value = answer.out.strip()
        if answer.succeeded and re.fullmatch(PROJECT, value):
            self.project = value

    def call(
        self, words: Sequence[str], limit: float, *, shows: bool = False, grace: float = 0
    ) -> Answer:
        """Runs gcloud with these words for at most `limit` seconds."""
        command = ["gcloud", *words, "--quiet"]
        if self.project:
            command.append(f"--project={self.project}")
        return self.program(command, limit, shows=shows, grace=grace)

    def program(
        self, command: Sequence[str], limit: float, *, shows: bool = False, grace: float = 0
    ) -> Answer:
        """Runs a program, or prints its command line with --dry-run."""
        if self.options.dry_run:
            print(shlex.join(command), flush=True)
            return Answer(0)
        sys.stdout.flush()
        return self.caller.run(
            command, limit, shows=shows, grace=grace, environment=None if shows else STRUCTURED
        )

    def tpus(self, *words: str, limit: float, shows: bool = False) -> Answer:
        """Runs `gcloud compute tpus` with these words in the zone."""
        zone = f"--zone={self.options['zone']}"
        return self.call(("compute", "tpus", *words, zone), limit, shows=shows)


def errors(answer: Answer) -> list[str]:
    """The error messages of an answer: `(gcloud.compute...) CODE: text`."""
    messages = []
    for line in answer.err.splitlines():
        record = json_of(line) if line.startswith("{") else None
        if isinstance(record, dict):
            if record.get("verbosity") == "ERROR":
                messages.append(str(record.get("message", "")))
        elif line.startswith("ERROR: "):
            messages.append(line[len("ERROR: ") :])
    return messages


def error_code(answer: Answer, command: str) -> str:
    """The API's error code, such as NOT_FOUND, in an answer to a command; "" if it has none.

    command: such as compute.tpus.tpu-vm.describe. Exactly one error must be there: its code, in its
    place, in the answer to this command.
    """
    messages = errors(answer)
    match = ERROR.match(messages[0]) if len(messages) == 1 else None
    if answer.code != 1 or match is None:
        return ""
    tracks = {"gcloud", f"gcloud.{command}", f"gcloud.alpha.{command}"}
    return match[2] if match[1] in tracks else ""


def json_of(text: str) -> Any:
    """The value of a JSON text, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def last_error(answer: Answer) -> str:
    """One line that says why a call failed."""
    if answer.code is None:
        return "gcloud did not answer in time"
    lines = [line.strip() for line in answer.err.splitlines() if line.strip()]
    found = errors(answer) or [line for line in lines if "rror" in line] or lines[-1:]
    if not found:
        return f"exit code {answer.code}, and no error message"
    return printable(found[0].splitlines()[0] if found[0] else "")[:300]


def printable(text: str) -> str:
    """The text without control characters: an error may quote what others wrote."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def refusal(text: str) -> str:
    """The kind of a refusal, for a hint: quota, capacity, ..., or other."""
    for kind, pattern in REFUSALS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return kind
    return "other"


def explain(options: Options, answer: Answer) -> str:
    """One line: what Google refused, and how to fix it."""
    what = f"{options['kind']} {options['type']} in {options['zone']}"
    zone = options["zone"]
    text = answer.err
    said = last_error(answer)
    short = said[:200]
    amounts = re.findall(
        r"TPU[A-Za-z0-9]+|[Ll]imit:? [0-9]+ in (?:region|zone) [a-z0-9-]+", text
    )[:2]
    lines = {
        "quota": f"no quota for {what} ({' '.join(amounts) or 'quota exceeded'}): request more "
        "under IAM & Admin > Quotas in the console, use another zone or --kind, or delete "
        "leftover requests (spot has its own quota)",
        "capacity": f"no {options['type']} is free in {zone} now: try another zone "
        f"({options.zones}), --kind spot or flex, or wait in the queue with --kind queued "
        "--queue-for 6h",
        "exists": f"{options.name} exists already in {zone}: choose another name, or "
        f"`tpu delete {options.name} --zone {zone}`",
        "disabled": "the TPU API is off in this project: gcloud services enable "
        "tpu.googleapis.com, and wait a minute",
        "login": "gcloud is not logged in: gcloud auth login",
        "project": "gcloud has no default project: pass --project, or gcloud config set project ID",
        "zone": f"{zone} has no {options['type']}: try {options.zones}",
        "rights": f"not allowed in {zone}: you need roles/tpu.admin and "
        f"roles/iam.serviceAccountUser ({short})",
        "network": f"Google can't be reached ({short}): look at the network, then try again",
        "other": f"Google refused {what}: {said}",
    }
    return lines["network" if answer.code is None else refusal(text)]
