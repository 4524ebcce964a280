"""Google's cloud as a model in the test's process, for a stand-in for gcloud.

The stand-in (`CLIENT`) sends its words to the model and runs the shell script that comes back, so
it starts in a few milliseconds, and a reply may print, hang, die by a signal, or run a command on
a fake host.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENT = """\
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port} || exit 70
printf '%s\\0' "$PWD" "${{CLOUDSDK_CORE_SHOW_STRUCTURED_LOGS:-}}" "$@" >&3
printf '\\0\\0' >&3
IFS= read -r -d '' script <&3
exec 3>&-
eval "$script"
"""
UNBORN = ("FAILED", "WAITING_FOR_RESOURCES")
HANG = "sleep 1000"
DEAF = "trap '' TERM INT HUP; while true; do sleep 1000; done"  # only SIGKILL ends it


@dataclass
class Rule:
    """What goes wrong with the calls that match, after `skip` of them, `times` times.

    once: a file that must be there first. becomes: the state that all slices get before. effect:
    whether the call has its effect, `later` seconds after it. script: what the stand-in does
    instead of answering; before: what it does first.
    """

    match: str
    times: int = 1
    skip: int = 0
    once: str = "*"
    becomes: str = ""
    effect: bool = False
    later: float = 0
    script: str = ""
    before: str = ""


class RefusedError(Exception):
    """Google's answer is an error: CODE: text."""


@dataclass
class Cloud:
    """What exists, what was called, and what goes wrong.

    stages: how many looks a slice takes from CREATING to READY, and from DELETING to absent.
    trains: the states that the hosts of a model without real hosts say, one after the other.
    """

    path: Path
    hosts: int = 0
    stages: int = 0
    trains: list[str] | None = None
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    deleted: int = 0
    created: int = 0
    project: str = ""
    cut: int = 0  # how many slices of the model's hosts were deleted while they trained
    lock: threading.RLock = field(default_factory=threading.RLock)
    timers: list[threading.Timer] = field(default_factory=list)

    def start(self) -> int:
        """Begins to answer; returns the port."""
        cloud = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                words = read_words(self.rfile)
                if words:
                    with suppress(OSError):
                        self.wfile.write(cloud.answer(words).encode() + b"\0")

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self.server.server_address[1]

    def stop(self) -> None:
        """Answers no more."""
        self.server.shutdown()
        self.server.server_close()

    def settle(self) -> None:
        """Waits for the effects that come later."""
        for timer in self.timers:
            timer.join()

    def answer(self, sent: list[str]) -> str:
        """The script that answers a call: `sent` is its folder, its way to log, and its words."""
        folder, structured, *words = sent
        with self.lock:
            self.calls.append(words)
            rule = self._rule(" ".join(words))
            if rule is None:
                return self._normal(folder, structured, words)
            script = ""
            if rule.effect and rule.later:
                timer = threading.Timer(rule.later, self._normal, (folder, structured, words))
                timer.start()
                self.timers.append(timer)
            elif rule.effect:
                script = self._normal(folder, structured, words)
            return f"{rule.before}\n{rule.script or script}"

    def _rule(self, line: str) -> Rule | None:
        for rule in self.rules:
            if not re.search(rule.match, line) or not any(self.path.glob(rule.once)):
                continue
            if rule.skip > 0:
                rule.skip -= 1
            elif rule.times > 0:
                rule.times -= 1
                for name, slice_ in self.slices.items() if rule.becomes else ():
                    if rule.becomes in UNBORN and not slice_["queued"]:
                        continue  # only a request fails
                    slice_["state"] = rule.becomes
                    self._end_processes(name, slice_)
                return rule
        return None

    def _normal(self, folder: str, structured: str, words: list[str]) -> str:
        words = [word for word in words if word not in ("--quiet", "alpha")]
        with self.lock:
            try:
                if words[0] == "config":
                    return say(self.project)
                if words[0] == "storage":
                    return self._storage(Path(folder), words[1:])
                assert words[:2] == ["compute", "tpus"], words
                group, action, *rest = words[2:]
                queued = group == "queued-resources"
                if action in ("ssh", "scp"):
                    return {"ssh": self._ssh, "scp": self._scp}[action](rest)
                if action == "list":
                    return say(json.dumps(self._list(queued)))
                if action == "describe":
                    return say(json.dumps(self._describe(rest[0], queued)))
                return {"create": self._create, "delete": self._delete}[action](rest, queued)
            except RefusedError as error:
                command = ".".join(words[: 2 if words[0] == "storage" else 4])
                return refuse(f"(gcloud.{command}) {error}", structured)

    # --- slices and requests ------------------------------------------------------------------

    def _create(self, words: list[str], queued: bool) -> str:
        name = words[0]
        if name in self.slices:
            raise RefusedError(f"ALREADY_EXISTS: Resource '{name}' already exists")
        chips = int(option(words, "accelerator-type").rpartition("-")[2])
        labels = option(words, "labels")
        self.created += 1
        self.slices[name] = {
            "state": "CREATING" if self.stages else "READY",
            "stage": self.stages,
            "queued": queued,
            "hosts": self.hosts or (1 if chips <= 8 else chips // 4),
            "generation": self.created,
            "labels": dict(pair.split("=") for pair in labels.split(",") if pair),
            "training": 0,
        }
        for number in range(self.slices[name]["hosts"] if self.trains is None else 0):
            self._home(name, number).mkdir(parents=True)
        return ""

    def _delete(self, words: list[str], queued: bool) -> str:
        name = words[0]
        if name not in self.slices or (queued and not self.slices[name]["queued"]):
            raise RefusedError(f"NOT_FOUND: Resource '{name}' was not found")
        slice_ = self.slices[name]
        if not queued and slice_["queued"]:
            raise RefusedError("FAILED_PRECONDITION: the node belongs to a queued resource")
        self._end_processes(name, slice_)
        self.cut += slice_["training"] and slice_["state"] == "READY"
        if self.stages:
            slice_ |= {"state": "DELETING", "stage": self.stages}
        else:
            del self.slices[name]
            self.deleted += 1
        return ""

    def _advance(self, name: str) -> None:
        """A look at a slice that comes or goes brings it one stage further."""
        slice_ = self.slices.get(name)
        if slice_ is None or slice_["state"] not in ("CREATING", "DELETING"):
            return
        slice_["stage"] -= 1
        if slice_["stage"] <= 0 and slice_["state"] == "CREATING":
            slice_["state"] = "READY"
        elif slice_["stage"] <= 0:
            del self.slices[name]
            self.deleted += 1

    def _describe(self, name: str, queued: bool) -> dict[str, Any]:
        self._advance(name)
        items = [item for item in self._list(queued) if item["name"].endswith(f"/{name}")]
        if not items:
            raise RefusedError(f"NOT_FOUND: Resource 'projects/p/nodes/{name}' was not found")
        return items[0]

    def _list(self, queued: bool) -> list[dict[str, Any]]:
        """A request's slice is a machine like others; one that failed never came to be."""
        items = []
        for name, slice_ in self.slices.items():
            state = slice_["state"]
            if queued and slice_["queued"]:
                state = {"READY": "ACTIVE", "PREEMPTED": "SUSPENDED"}.get(state, state)
                error = {
                    "message": "Quota 'TPUV5sPreemptibleLitepodPerProjectPerRegionForTPUAPI' "
                    "exhausted. Limit 0 in region us-west4"
                }
                about = {"state": state} | (
                    {"failedData": {"error": error}} if state == "FAILED" else {}
                )
                node = {"labels": slice_["labels"]}
                items.append(
                    {
                        "name": f"projects/p/locations/z/queuedResources/{name}",
                        "state": about,
                        "tpu": {"nodeSpec": [{"nodeId": name, "node": node}]},
                    }
                )
            elif not queued and state not in UNBORN:
                items.append(
                    {
                        "name": f"projects/p/locations/z/nodes/{name}",
                        "state": state,
                        "labels": slice_["labels"],
                        "networkEndpoints": [{}] * slice_["hosts"],
                    }
                )
        return items

    # --- hosts --------------------------------------------------------------------------------

    def _home(self, name: str, number: int) -> Path:
        return self.path / "hosts" / f"{name}-{self.slices[name]['generation']}-{number}"

    def _end_processes(self, name: str, slice_: dict[str, Any]) -> None:
        """What a machine that is taken away does to what runs on it."""
        for number in range(slice_["hosts"]):
            for process in ("session", "train"):
                file = self._home(name, number) / "rvc_jax" / f"{process}.pid"
                with suppress(OSError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGKILL)

    def _hosts(self, name: str, words: list[str]) -> list[int]:
        if name not in self.slices:
            raise RefusedError(f"NOT_FOUND: {name} was not found")
        slice_ = self.slices[name]
        if slice_["state"] != "READY":
            raise RefusedError(f"FAILED_PRECONDITION: the TPU is in state {slice_['state']}")
        which = option(words, "worker") or "0"
        return list(range(slice_["hosts"])) if which == "all" else [int(which)]

    def _ssh(self, words: list[str]) -> str:
        numbers = self._hosts(words[0], words)
        if self.trains is not None:
            return self._ssh_to_model(words, numbers)
        count = self.slices[words[0]]["hosts"]
        lines = ["code=0"]
        for number in numbers:
            home = self._home(words[0], number)
            environment = {
                "HOME": str(home),
                "PATH": f"{self.path / 'bin'}:/usr/bin:/bin",
                "FAKE_CLOUD": str(self.path),
                "FAKE_HOST": str(number),
                "FAKE_HOST_COUNT": str(count),
            }
            settings = shlex.join(f"{key}={value}" for key, value in environment.items())
            command = shlex.join(["bash", "-c", option(words, "command")])
            lines.append(f"(cd {shlex.quote(str(home))} && exec env -i {settings} {command}) &")
        lines.append('for job in $(jobs -p); do wait "$job" || code=$?; done; exit $code')
        return "\n".join(lines)

    def _ssh_to_model(self, words: list[str], numbers: list[int]) -> str:
        assert self.trains is not None
        slice_ = self.slices[words[0]]
        action = option(words, "command").split()[2]
        if action == "start":
            slice_["training"] = 1
        if action == "stop":
            slice_["training"] = 0
        if action != "state":
            return ""
        state = self.trains.pop(0) if len(self.trains) > 1 else self.trains[0]
        slice_["training"] = int(state == "running")
        return say("\n".join(f"training: {state}" for _ in numbers))

    def _scp(self, words: list[str]) -> str:
        *sources, target = [word for word in words if not word.startswith("--")]
        numbers = self._hosts(target.rstrip(":"), words)
        if self.trains is not None:
            return ""
        homes = [str(self._home(target.rstrip(":"), number)) for number in numbers]
        return "\n".join(shlex.join(["cp", *sources, home]) for home in homes)

    # --- buckets ------------------------------------------------------------------------------

    def _storage(self, folder: Path, words: list[str]) -> str:
        """Buckets are folders; where there are none, everything that is asked for is there."""
        buckets = self.path / "buckets"
        plain = [word for word in words if not word.startswith("--")]
        if words[0] == "ls":
            if buckets.exists() and not (buckets / plain[1].removeprefix("gs://")).exists():
                return refuse("(gcloud.storage.ls) One or more URLs matched no objects.", "")
            return say(plain[1])
        if words[0] == "objects":
            return self._objects(buckets, plain[2])
        source = buckets / plain[1].removeprefix("gs://")
        target = folder / plain[2]
        if not buckets.exists() and "--recursive" in words:
            voice = shlex.quote(str(target / source.name))
            return f"mkdir -p {voice}; echo a voice >{voice}/voice.pth"
        if source.exists():
            return shlex.join(["cp", "-r", str(source), str(target)])
        return ""

    def _objects(self, buckets: Path, url: str) -> str:
        base = buckets / url.removeprefix("gs://").removesuffix("/**")
        items = [
            {"name": str(file.relative_to(buckets)), "size": file.stat().st_size}
            for file in base.rglob("*")
            if file.is_file()
        ]
        if not buckets.exists():
            items = [{"name": "run/voice/voice.pth", "size": str(len("a voice\n"))}]
        return say(json.dumps(items))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def read_words(file) -> list[str]:
    """What a client sends: words that end with NUL, and an empty pair at the end."""
    data = b""
    while not data.endswith(b"\0\0\0"):
        part = file.read1(65536)
        if not part:
            return []
        data += part
    return data[:-3].decode().split("\0")


def option(words: list[str], name: str) -> str:
    found = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return found[0] if found else ""


def say(text: str) -> str:
    return f"printf '%s\\n' {shlex.quote(text)}"


def refuse(message: str, structured: str, code: int = 1) -> str:
    """gcloud's own way to print an error."""
    line = f"ERROR: {message}"
    if structured == "always":
        record = {"version": "0.0.1", "verbosity": "ERROR", "timestamp": "", "message": message}
        line = json.dumps(record)
    return f"printf '%s\\n' {shlex.quote(line)} >&2; exit {code}"


def wait_for(found, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
