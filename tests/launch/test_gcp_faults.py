"""Random sequences of failures: no slice is left without its name and the command that deletes it.

Every sequence runs the real driver as a process, against a cloud that refuses, hangs, prints
garbage, dies, does half of what it is asked, or does it later; signals come at any moment.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_cloud import DEAF, HANG, Rule
from fake_world import LAUNCH, RUN, World

SECOND = 0.004  # length of a second for the driver
FORKED = Path(__file__).parents[1] / "helpers" / "forked_driver.py"
DELETES = "delete my-voice --zone us-west4-a"
ONE = ("--type", "v5litepod-8")
CALLS = {
    "storage ls": 1,
    "tpu-vm describe": 6,
    "queued-resources describe": 4,
    " create ": 6,
    " delete ": 6,
    " list ": 3,
    " scp ": 1,
    "host.sh install": 1,
    "host.sh start": 2,
    "host.sh state": 4,
    "host.sh export": 2,
    "storage cp --rec": 2,
    "objects list": 1,
    "config get-value": 1,
}
TEXTS = (
    "ERROR: (gcloud) HTTPError 404: <html><title>404 Not Found</title></html>",
    "/usr/bin/gcloud: line 3: python3: not found",
    "ERROR: (gcloud.auth) NOT_FOUND: the account was not found",
    "ERROR: (gcloud.compute.tpus.tpu-vm.describe) There was a problem refreshing your current auth "
    "tokens: ('invalid_grant: Token has been expired or revoked.', NOT_FOUND)",
    "ERROR: (gcloud.compute.tpus.tpu-vm.create) ALREADY_EXISTS: Resource 'my-voice' already exists",
    "ERROR: (gcloud.compute.tpus.tpu-vm.create) RESOURCE_EXHAUSTED: Quota limit exceeded",
    "ERROR: (gcloud) PERMISSION_DENIED: Permission 'tpu.nodes.get' denied",
    "ERROR: (gcloud) HTTPSConnectionPool(host='tpu.googleapis.com'): Max retries exceeded",
    "ERROR: gcloud crashed (ConnectionResetError): [Errno 104] Connection reset by peer",
    "",
)
OUTPUTS = (
    "",
    "null",
    "[]",
    "{}",
    "{",
    "[[[[",
    '{"state": "READY"',
    '{"state": 5}',
    '{"state": "ABSENT"}',
    '{"name": "projects/p/nodes/other", "state": "READY"}',
    "training: unknown",
    "training: ended",
    "training: ended 0x",
    "Welcome to Ubuntu",
    "not found",
)


def failure(draw: random.Random, match: str) -> Rule:
    """A failure of the calls that match."""
    rule = Rule(
        match, times=draw.choice((1, 1, 1, 2, 4, 99)), skip=draw.choice((0, 0, 0, 1, 2, 5))
    )
    rule.effect = draw.random() < 0.5
    if draw.random() < 0.2:
        rule.later = draw.choice((2, 10, 60)) * SECOND
    text = shlex.quote(draw.choice(TEXTS))
    output = shlex.quote(draw.choice(OUTPUTS))
    rule.script = draw.choice(
        (
            f"echo {text} >&2; exit 1",
            f"echo {text} >&2; exit {draw.choice((1, 2, 70, 127, 130, 137))}",
            f"echo {output}",
            f"echo {output}",
            f"printf %s {output}; {HANG}",
            HANG,
            DEAF,
            f"kill -{draw.choice((9, 11, 15))} $$",
            "exit 0",
            "",
        )
    )
    if not rule.script:
        rule.effect = True
        rule.before = f"sleep {draw.choice((1, 5, 20)) * SECOND}"
    elif draw.random() < 0.15:
        rule.becomes = draw.choice(("PREEMPTED", "REPAIRING", "FAILED", "SOMETHING_NEW"))
    return rule


def sequence(draw: random.Random, world: World) -> tuple[list[str], list[tuple[float, int]]]:
    """Failures for the world, the words of the command, and signals with their times in seconds."""
    names = list(CALLS)
    weights = list(CALLS.values())
    for match in draw.choices(names, weights, k=draw.choice((1, 1, 2, 3, 4))):
        world.cloud.rules.append(failure(draw, match))
    world.cloud.stages = draw.choice((0, 0, 1, 3))
    world.cloud.project = draw.choice(("", "my-project"))
    ends = draw.choice(("ended 0", "ended 0", "ended 0", "ended 1", "gone"))
    world.cloud.trains = [*["running"] * draw.choice((0, 1, 3)), ends]
    kind = draw.choice(("on-demand", "spot", "queued", "flex"))
    limit = draw.choice(("3m", "10m", "10m"))
    words = ["run", *ONE, "--kind", kind, *RUN, "--poll", "10s", "--at-most", limit]
    words += ["--queue-for", "2m", "--restarts", draw.choice("01")]
    if draw.random() < 0.1:
        words = ["create", *ONE, "--kind", kind, "--poll", "10s", "--at-most", limit]
    signals = []
    if draw.random() < 0.4:
        moment = draw.uniform(0.0, 0.6)
        for _ in range(draw.choice((1, 1, 2, 3))):
            number = draw.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT))
            signals.append((moment, number))
            moment += draw.choice((0.0, 0.01, 0.2))
    return words, signals


class Driver:
    """A process that forks drivers, one at a time."""

    def __init__(self) -> None:
        words = [sys.executable, "-I", "-S", str(FORKED), str(LAUNCH / "driver")]
        environment = os.environ | {"RVC_JAX_SECOND": str(SECOND), "RVC_JAX_TAKEOVER": "20"}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self, world: World, words: list[str], signals: list[tuple[float, int]]
    ) -> tuple[int, str]:
        """Runs a command, sends signals after its first call, and returns its code and output."""
        assert self.process.stdin is not None and self.process.stdout is not None
        output = world.path / "output"
        job = {
            "words": world.command(*words)[2:],
            "environment": world.environment | {"RVC_JAX_TPU": str(LAUNCH / "tpu")},
            "folder": str(world.path / "out"),
            "output": str(output),
        }
        print(json.dumps(job), file=self.process.stdin, flush=True)
        number = int(self.process.stdout.readline())
        ended = threading.Event()
        sender = threading.Thread(target=send, args=(number, signals, world.cloud.calls, ended))
        sender.start()
        code = int(self.process.stdout.readline())
        ended.set()
        sender.join()
        return code, output.read_text()

    def close(self) -> None:
        self.process.communicate()


def send(
    process: int, signals: list[tuple[float, int]], calls: list[Any], ended: threading.Event
) -> None:
    """Sends the signals after the first call; kills the process after a minute."""
    while signals and not calls and not ended.wait(0.002):
        pass
    began = time.monotonic()
    for moment, number in [*signals, (60.0, signal.SIGKILL)]:
        if ended.wait(max(0.0, began + moment - time.monotonic())):
            return
        os.kill(process, number)


def faults_of(seed: int, folder: Path, driver: Driver) -> list[str]:
    """What is wrong after a sequence of failures; [] if nothing is."""
    draw = random.Random(seed)
    folder.mkdir()
    world = World(folder, second=SECOND)
    words, signals = sequence(draw, world)
    code, text = driver.run(world, words, signals)
    world.cloud.settle()
    left = dict(world.cloud.slices)
    problem = problem_of(world, words, code, text, left)
    world.cloud.stop()
    if not problem:
        return []
    story = [line.split("--quiet")[0] for line in map(" ".join, world.cloud.calls)]
    return [f"{seed}: {problem}: {code} {words} {signals}\n{text}\n{story}\n{left}"]


def problem_of(
    world: World, words: list[str], code: int, text: str, left: dict[str, dict[str, Any]]
) -> str:
    """What is wrong with the end of a sequence, or ""."""
    last = text.rstrip().splitlines()[-1] if text.strip() else ""
    if "Traceback" in text:
        return "a traceback"
    if code == -signal.SIGKILL:
        return "it did not end"
    if code == 0 and words[0] == "run":
        if left:
            return "a slice is left, and the exit code is 0"
        if not (world.path / "out" / "voice" / "voice.pth").exists():
            return "success without a voice"
        if world.cloud.cut:
            return "it was deleted while it trained"
    if left and DELETES not in last:
        return "a slice is left, and the last line does not say so"
    return cleaned(world, last) if left else ""


def cleaned(world: World, last: str) -> str:
    """Runs the command at the end of the last line, in a world without failures."""
    world.cloud.rules.clear()
    command = shlex.split(last.rpartition(": ")[2])
    done = subprocess.run(
        ["bash", *command],
        env=world.environment | {"RVC_JAX_SECOND": "0.05"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0 and not world.cloud.slices:
        return ""
    return f"the command of the last line does not delete it: {command} {done.stderr}"


def run_sequences(seeds: range, folder: Path) -> None:
    count = 4 * (os.cpu_count() or 1)

    def run_share(first: int) -> list[str]:
        driver = Driver()
        shared = [faults_of(seed, folder / str(seed), driver) for seed in seeds[first::count]]
        driver.close()
        return [problem for problems in shared for problem in problems]

    with ThreadPoolExecutor(max_workers=count) as pool:
        problems = [problem for share in pool.map(run_share, range(count)) for problem in share]
    assert not problems, f"{len(problems)} of {len(seeds)}:\n" + "\n\n".join(problems[:5])


def test_no_slice_is_left_without_a_word(tmp_path: Path) -> None:
    run_sequences(range(200), tmp_path)


@pytest.mark.heavy
def test_no_slice_is_left_without_a_word_in_more_sequences(tmp_path: Path) -> None:
    first = int(os.environ.get("RVC_JAX_TEST_SEED", "1000"))
    run_sequences(range(first, first + 2000), tmp_path)
