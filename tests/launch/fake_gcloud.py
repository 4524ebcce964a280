"""A stand-in for `gcloud`, whose TPU hosts are folders and processes of this machine.

$FAKE_CLOUD is its world: `calls.jsonl` has every call, `slices.json` what exists, `rules.json` what
goes wrong, and `hosts/` a home folder per host. It needs nothing but the standard library, and
starts fast (`python -I -S`).
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

UNBORN = ("FAILED", "WAITING_FOR_RESOURCES")
WORLD = Path(os.environ["FAKE_CLOUD"])


@contextlib.contextmanager
def kept(name, default):
    """A JSON value in the world that the block may change; one process at a time."""
    file = WORLD / name
    with (WORLD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        value = json.loads(file.read_text()) if file.exists() else default
        yield value
        (WORLD / f"{name}.new").write_text(json.dumps(value))
        (WORLD / f"{name}.new").replace(file)


def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)


def option(words, name, default=None):
    return next(
        (word.partition("=")[2] for word in words if word.startswith(f"--{name}=")), default
    )


def home(name, slice_, number):
    return WORLD / "hosts" / f"{name}-{slice_['generation']}-{number}"


def end_processes(name, slice_):
    """What a machine that is taken away does to what runs on it."""
    for number in range(slice_["hosts"]):
        file = home(name, slice_, number) / "rvc_jax" / "train.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)


def obey_rules(line):
    """The first rule whose pattern is found in the call, after its `skip` first calls, `times`
    times, once its file is there."""
    with kept("rules.json", []) as rules, kept("slices.json", {}) as slices:
        for rule in rules:
            if not re.search(rule["match"], line) or not any(WORLD.glob(rule.get("once", "*"))):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
            elif rule.get("times", 1) > 0:
                rule["times"] = rule.get("times", 1) - 1
                for name, slice_ in slices.items() if rule.get("becomes") else ():
                    slice_["state"] = rule["becomes"]
                    end_processes(name, slice_)
                return rule
    return {}


def create(words, slices, queued):
    name = words[0]
    if name in slices:
        fail(f"ERROR: (gcloud) ALREADY_EXISTS: Resource '{name}' already exists")
    chips = int(option(words, "accelerator-type").rpartition("-")[2])
    made = WORLD / "generation"
    generation = int(made.read_text()) + 1 if made.exists() else 1
    made.write_text(str(generation))
    hosts = int(os.environ.get("FAKE_HOSTS", 1 if chips <= 8 else chips // 4))
    slice_ = {"state": "READY", "queued": queued, "hosts": hosts, "generation": generation}
    for number in range(hosts):
        home(name, slice_, number).mkdir(parents=True)
    slices[name] = slice_


def delete(words, slices, queued):
    name = words[0]
    if name not in slices or slices[name]["queued"] != queued:
        fail(f"ERROR: (gcloud) NOT_FOUND: Resource '{name}' was not found")
    end_processes(name, slices.pop(name))
    with (WORLD / "deleted").open("a") as file:
        file.write(f"{name}\n")


def describe(words, slices, queued):
    """A request's slice is a machine like others; one that failed never came to be."""
    name = words[0]
    state = slices[name]["state"] if name in slices else None
    if (
        state is None
        or (queued and not slices[name]["queued"])
        or (not queued and state in UNBORN)
    ):
        fail(f"ERROR: (gcloud) NOT_FOUND: Resource '{name}' was not found")
    if "failedData" in option(words, "format"):
        print(
            "Quota 'TPUV5sPreemptibleLitepodPerProjectPerRegionForTPUAPI' exhausted. "
            "Limit 0 in region us-west4"
        )
    else:
        print(
            {"READY": "ACTIVE", "PREEMPTED": "SUSPENDED"}.get(state, state) if queued else state
        )


def hosts_of(name, words):
    with kept("slices.json", {}) as slices:
        if name not in slices:
            fail(f"ERROR: (gcloud.compute.tpus.tpu-vm.ssh) NOT_FOUND: {name} was not found")
        slice_ = slices[name]
    if slice_["state"] != "READY":
        fail(f"ERROR: (gcloud.compute.tpus.tpu-vm.ssh) the TPU is in state {slice_['state']}")
    which = option(words, "worker", "0")
    numbers = range(slice_["hosts"]) if which == "all" else [int(which)]
    return {number: home(name, slice_, number) for number in numbers}, slice_["hosts"]


def ssh(words):
    folders, count = hosts_of(words[0], words)
    processes = []
    for number, folder in folders.items():
        environment = {
            "HOME": str(folder),
            "PATH": f"{WORLD / 'bin'}:/usr/bin:/bin",
            "FAKE_CLOUD": str(WORLD),
            "FAKE_HOST": str(number),
            "FAKE_HOST_COUNT": str(count),
        }
        command = ["bash", "-c", option(words, "command")]
        processes.append(
            subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        )
    for process in processes:
        sys.stdout.buffer.write(process.communicate()[0])
    sys.stdout.flush()
    sys.exit(max(process.returncode for process in processes))


def scp(words):
    *sources, target = [word for word in words if not word.startswith("--")]
    folders, _ = hosts_of(target.rstrip(":"), words)
    for folder in folders.values():
        for source in sources:
            shutil.copy(source, folder)


def storage(words):
    """Buckets are folders; where there are none, everything that is asked for is there."""
    buckets = WORLD / "buckets"
    source, target = (buckets / word.removeprefix("gs://") for word in (*words[-2:],))
    if words[0] == "ls" and buckets.exists() and not target.exists():
        fail("ERROR: (gcloud.storage.ls) One or more URLs matched no objects.")
    if words[0] != "cp":
        return
    target = Path(words[-1])
    if not buckets.exists() and "--recursive" in words:
        (target / source.name).mkdir(exist_ok=True)
        (target / source.name / "voice.pth").write_text("a voice")
    elif source.is_dir():
        shutil.copytree(source, target / source.name)
    elif source.exists():
        shutil.copy(source, target)


def main(words):
    line = " ".join(words)
    with kept("calls.json", []) as calls:
        calls.append(words)
    rule = obey_rules(line)
    if "stderr" in rule:
        fail(rule["stderr"])
    words = [word for word in words if word not in ("--quiet", "alpha")]
    if words[0] == "storage":
        return storage(words[1:])
    assert words[:2] == ["compute", "tpus"], line
    group = words[2]
    action = words[3]
    rest = words[4:]
    if action in ("ssh", "scp"):
        return {"ssh": ssh, "scp": scp}[action](rest)
    with kept("slices.json", {}) as slices:
        {"create": create, "delete": delete, "describe": describe}[action](
            rest, slices, group == "queued-resources"
        )


main(sys.argv[1:])
