"""The options of `tpu`: read and checked before anything costs money."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from messages import UserError

USAGE = """\
Usage: tpu COMMAND NAME --zone ZONE [OPTIONS] [-- TRAIN_OPTIONS]

Trains a voice on a TPU slice of Google Cloud. NAME is the name of the slice; TRAIN_OPTIONS go to
`rvc-jax train`.

Commands:
  run      create, set up, train, export, fetch; delete the slice at the end, on errors, on Ctrl-C,
           and at the time limit (--at-most)
  create   request a slice
  setup    install the package on all hosts of the slice
  train    start or continue the training
  logs     follow the output of the training
  stop     save and end the training
  state    print the state of the slice and of the training
  fetch    export the voice and download it
  delete   delete the slice and its request

Options:
  --zone ZONE               the zone, such as us-west4-a
  --project ID              the project (default: gcloud's current project)
  --type TYPE               the slice: v5litepod-1, -4, -8, -16, ... or v6e-1, -4, -8, -16, ...
  --kind KIND               on-demand (default)
                            spot: cheaper, may be preempted
                            queued: on-demand, waits in a queue
                            flex: waits in a queue, is not preempted, runs 7 days at most
  --queue-for TIME          how long the request may wait in the queue (default: 1h)
  --at-most TIME            time limit: the slice is deleted this long after the request, whatever
                            happens (default: a --budget in hours or minutes plus 3 hours, else 12h)
  --service-account EMAIL   the account of the hosts (default: Compute Engine's default account)
  --ref REF | --wheel FILE  what to install: a commit of this repository (default: HEAD), or a wheel
  --dataset URL --run URL   the dataset and the run at gs://, as for `rvc-jax train`
  --budget BUDGET           budget of the training: 2h, 90min or $3, as for `rvc-jax train --budget`
  --restarts N              how many times a preempted slice is replaced (default: 5)
  --format FORMAT           format of the voice: rvc, zip, onnx, safetensors, ...
                            (default: every available format)
  --to FOLDER               folder for the voice (default: the current folder)
  --poll TIME               interval between checks of the slice and the training (default: 30s)
  --dry-run                 print the commands without running them

TIME is a number of hours, minutes or seconds: 12h, 90m or 45s."""
COMMANDS = ("run", "create", "setup", "train", "stop", "logs", "state", "fetch", "delete")
UNITS = {"h": 3600, "m": 60, "s": 1}
WEEK = 604800
URL = r"gs://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9._=+@-]+)+/?"
PATTERNS = {
    "zone": (r"[a-z]+-[a-z]+[0-9]+-[a-z]", "a zone such as us-west4-a; docs/gcp.md lists them"),
    "project": (
        r"(([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])?",
        "the ID of a Google Cloud project",
    ),
    "kind": (r"(on-demand|spot|queued|flex)", "on-demand, spot, queued or flex"),
    "restarts": (r"(0|[1-9][0-9]?)", "a number from 0 to 99"),
    "service-account": (r"([a-z0-9-]+@[a-z0-9.-]+)?", "an email address"),
    "type": (
        r"(v5litepod|v6e)-(1|4|8|16|32|64|128|256)",
        "v5litepod-N or v6e-N with N = 1, 4, 8, 16, 32, 64, 128 or 256",
    ),
    "dataset": (URL, "a folder such as gs://bucket/folder"),
    "run": (URL, "a folder such as gs://bucket/folder"),
    "budget": (r"(([0-9.]+(h|min)|\$[0-9.]+))?", '2h, 90min or "$3"'),
    "format": (
        r"(rvc|zip|onnx|onnx-rvc|safetensors|checkpoints|all)?",
        "rvc, zip, onnx, onnx-rvc, safetensors, checkpoints or all",
    ),
    "ref": (r"[A-Za-z0-9_][A-Za-z0-9._/~^-]*", "a commit, branch or tag"),
}
ZONES = {
    "v5litepod": ("us-central1-a", "us-south1-a", "us-west1-c", "us-west4-a", "europe-west4-b"),
    "v6e": (
        "us-central1-b",
        "us-east1-d",
        "us-east5-a",
        "us-east5-b",
        "europe-west4-a",
        "asia-northeast1-b",
    ),
}
NAME = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
# What a command checks beside the name, the zone, the project and the kind.
CHECKED = {
    "create": ("type",),
    "train": ("dataset", "run", "budget"),
    "fetch": ("run", "format"),
    "run": ("type", "dataset", "run", "budget", "format"),
}
DEFAULTS = {
    "zone": "",
    "project": "",
    "type": "",
    "kind": "on-demand",
    "queue-for": "1h",
    "at-most": "",
    "service-account": "",
    "ref": "HEAD",
    "wheel": "",
    "dataset": "",
    "run": "",
    "budget": "",
    "restarts": "5",
    "format": "",
    "to": ".",
    "poll": "30s",
}


@dataclass
class Options:
    """What the command line says; times in seconds."""

    command: str
    name: str
    values: dict[str, str]
    dry_run: bool = False
    train: list[str] = field(default_factory=list)
    queue_seconds: int = 0
    poll_seconds: int = 0
    limit_seconds: int = 0

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    @property
    def title(self) -> str:
        """The slice and its zone, for messages."""
        return f"{self.name} in {self['zone']}"

    @property
    def runtime(self) -> str:
        """The machine image for the type."""
        return "v2-alpha-tpuv6e" if self["type"].startswith("v6e") else "v2-alpha-tpuv5-lite"

    @property
    def zones(self) -> str:
        """The zones that offered the type to everybody in 2026."""
        return ", ".join(ZONES["v6e" if self["type"].startswith("v6e") else "v5litepod"])


def parse(words: list[str]) -> Options | None:
    """Reads the command line; returns None where help is asked for.

    Raises:
        UserError: a word is missing or unknown, or a value is not valid.
    """
    if not words or words[0] in ("-h", "--help"):
        return None
    command = words[0]
    if len(words) < 2 or words[1].startswith("-"):
        if "-h" in words[1:2] or "--help" in words[1:2]:
            return None
        raise UserError(f"NAME of the slice is missing: tpu {shown(command)} NAME --zone ZONE")
    options = Options(command, words[1], dict(DEFAULTS))
    rest = words[2:]
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.train = rest
            break
        if word in ("-h", "--help"):
            return None
        if word == "--dry-run":
            options.dry_run = True
            continue
        if not rest or rest[0] == "--":
            raise UserError(f"{shown(word)} needs a value, or is unknown; see tpu --help")
        if not word.startswith("--") or word[2:] not in DEFAULTS:
            raise UserError(f"{shown(word)} is unknown; tpu --help lists the options")
        options.values[word[2:]] = rest.pop(0)
    check(options)
    return options


def check(options: Options) -> None:
    """Checks every value that the command uses, and computes the times."""
    if options.command not in COMMANDS:
        raise UserError(f"{shown(options.command)} is unknown: {', '.join(COMMANDS)}")
    must_match("NAME", options.name, NAME, "lowercase letters, digits and -, such as my-voice")
    always = ("zone", "project", "kind", "restarts", "service-account")
    for key in (*always, *CHECKED.get(options.command, ())):
        must_match(f"--{key}", options[key], *PATTERNS[key])
    options.queue_seconds = seconds_of("--queue-for", options["queue-for"])
    options.poll_seconds = seconds_of("--poll", options["poll"])
    options.values["at-most"] = options["at-most"] or usual_limit(options["budget"])
    options.limit_seconds = seconds_of("--at-most", options["at-most"])
    if options["kind"] == "flex" and options.limit_seconds >= WEEK - 800:
        raise UserError(f"--at-most {options['at-most']}: flex slices run 7 days at most")
    if options.command in ("setup", "run"):
        check_source(options)
    if options.command in ("fetch", "run"):
        folder = Path(options["to"])
        if not folder.is_dir():
            raise UserError(f"--to: there is no folder {shown(options['to'])}")
        if not os.access(folder, os.W_OK):
            raise UserError(f"--to {shown(options['to'])}: the folder can't be written")


def check_source(options: Options) -> None:
    """Checks the name of the wheel, or of the commit (`setup` asks git whether it exists)."""
    wheel = Path(options["wheel"])
    if not options["wheel"]:
        must_match("--ref", options["ref"], *PATTERNS["ref"])
        return
    must_match(
        "--wheel", wheel.name, r"rvc_jax-[A-Za-z0-9._+-]+\.whl", "a file named rvc_jax-....whl"
    )
    if not wheel.is_file():
        raise UserError(f"--wheel: there is no file {shown(str(wheel))}")


def must_match(option: str, value: str, pattern: str, hint: str) -> None:
    """Raises UserError unless the whole value matches the pattern."""
    if re.fullmatch(pattern, value):
        return
    if not value:
        raise UserError(f"{option} is missing: {hint}")
    raise UserError(f"{option} {shown(value)} is not valid: {hint}")


def seconds_of(option: str, text: str) -> int:
    """Converts a time such as 12h, 90m or 45s to seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([hms])", text, re.ASCII)
    if match is None:
        raise UserError(f"{option} {shown(text)}: write a time such as 12h, 90m or 45s")
    return int(match[1]) * UNITS[match[2]]


def usual_limit(budget: str) -> str:
    """The default of --at-most: the budget, plus time to wait, install, compile and export."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})(h|min)", budget, re.ASCII)
    if match is None:
        return "12h"
    return f"{int(match[1]) * (60 if match[2] == 'h' else 1) + 180}m"


def shown(text: str) -> str:
    """The text as one printable line."""
    return text if re.fullmatch(r"[\w./:@=+-]+", text, re.ASCII) else ascii(text)
