"""Random sequences of failures: no slice is left without its name and the command that deletes it.

Every sequence runs the real driver as a process, against a cloud that refuses, hangs, prints
garbage, dies, does half of what it is asked, or does it later; signals come at any moment.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fake_cloud import DEAF, HANG, Rule, wait_for
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
    "host.sh state": 6,
    "host.sh export": 2,
    "storage cp --rec": 2,
    "objects list": 1,
    "config get-value": 1,
    "describe|delete|list": 6,
    "compute tpus": 3,
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
    lasting = "|" in match or match == "compute tpus"  # as a network that is gone
    times = draw.choice((4, 20, 999) if lasting else (1, 1, 1, 2, 4, 99))
    skip = draw.choice((3, 4, 5, 8) if lasting else (0, 0, 0, 1, 2, 5))
    rule = Rule(match, times=times, skip=skip)
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
    if lasting:
        rule.script = f"echo {text} >&2; exit 1"
    elif not rule.script:
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
    words = [
        "run",
        *ONE,
        "--kind",
        kind,
        *RUN,
        *wheel(world),
        "--poll",
        "10s",
        "--at-most",
        limit,
    ]
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


def wheel(world: World) -> tuple[str, str]:
    """The option for a wheel, which needs no archive of the commit."""
    file = world.path / "rvc_jax-9.9-py3-none-any.whl"
    file.touch()
    return ("--wheel", str(file))


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
        with suppress(ProcessLookupError):
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


# --- one failure at a time
# ----------------------------------------------------------------------------


def model(folder: Path) -> World:
    """A cloud whose hosts are a model; a training of two looks."""
    folder.mkdir(exist_ok=True)
    world = World(folder, second=0.02)
    world.cloud.trains = ["running", "running", "ended 0"]
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = model(tmp_path)
    yield made
    made.cloud.stop()


def together(folder: Path, check: Callable[..., None], *inputs: Sequence[Any]) -> None:
    """Checks all combinations of the inputs, each in a world of its own, several at a time."""

    def check_one(case: tuple[int, tuple[Any, ...]]) -> None:
        number, values = case
        world = model(folder / str(number))
        try:
            check(world, *values)
        except AssertionError as error:
            raise AssertionError(f"{values}: {error}") from error
        finally:
            world.cloud.stop()

    with ThreadPoolExecutor(max_workers=3 * (os.cpu_count() or 1)) as pool:
        list(pool.map(check_one, enumerate(itertools.product(*inputs))))


def run(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return world.tpu("run", *ONE, *RUN, *wheel(world), "--poll", "10s", *words)


def last_line(text: str) -> str:
    return text.rstrip().splitlines()[-1]


def assert_said(world: World, done: subprocess.CompletedProcess[str]) -> None:
    """A slice is left; the last line names it, and its command deletes it."""
    assert world.slices and done.returncode != 0
    assert DELETES in last_line(done.stderr)
    assert cleaned(world, last_line(done.stderr)) == ""


def test_loose_text_does_not_mean_gone(tmp_path: Path) -> None:
    def check(world: World, text: str) -> None:
        say = f"echo {shlex.quote(text)} >&2; exit 1"
        world.cloud.rules.append(Rule("describe|delete|list", times=999, skip=3, script=say))
        done = run(world)
        assert (world.path / "out" / "voice" / "voice.pth").exists()
        assert_said(world, done)

    together(tmp_path, check, TEXTS)


def test_an_unknown_state_does_not_mean_gone_nor_ready(tmp_path: Path) -> None:
    def check(world: World, output: str) -> None:
        say = f"printf '%s\\n' {shlex.quote(output)}"
        world.cloud.rules.append(Rule("tpu-vm describe", times=4, skip=1, script=say))
        done = run(world)
        assert done.returncode == 0 and not world.slices, done.stderr
        assert len(world.matching("scp")) == 1

    together(tmp_path, check, [*OUTPUTS, "READY", '{"state": "ready"}', '"READY"'])


def test_a_training_with_an_unknown_state_goes_on(tmp_path: Path) -> None:
    outputs = [
        "",
        "training: unknown",
        "training: ended",
        "training: ended zero",
        "ended 0",
        "training: ended 0 training: running",
        "Training: ended 0",
        "training: running later",
        "training: ended 0\ntraining: ended 0",
    ]

    def check(world: World, output: str) -> None:
        say = f"printf '%b\\n' {shlex.quote(output)}"
        world.cloud.rules.append(Rule("host.sh state", times=3, script=say))
        done = run(world)
        assert done.returncode == 0 and not world.slices and not world.cloud.cut, done.stderr
        assert done.stderr.count("the hosts do not answer") >= 3
        # It was exported after the hosts had said that it ended.
        lines = [" ".join(words) for words in world.calls]
        export = next(i for i, line in enumerate(lines) if "host.sh export" in line)
        assert sum("host.sh state" in line for line in lines[:export]) >= 6

    together(tmp_path, check, outputs)


def test_a_signal_acts_while_a_call_hangs(tmp_path: Path) -> None:
    def check(world: World, wanted: str, script: str) -> None:
        skip = 4 if wanted == "describe" else 0
        effect = wanted == " create "
        world.cloud.rules.append(Rule(wanted, script=script, skip=skip, effect=effect))
        process = world.start("run", *ONE, *RUN, *wheel(world), "--poll", "10s")
        wait_for(lambda: len(world.matching(wanted)) > skip)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=30)[0]
        assert process.returncode == 130, text
        assert not world.slices
        assert time.monotonic() - began < 15

    calls = [" create ", "describe", "scp", "install", "state", "delete"]
    together(tmp_path, check, calls, [HANG, DEAF])


def test_the_limit_acts_while_a_call_hangs(world: World) -> None:
    world.cloud.rules.append(Rule("install", script=DEAF))
    began = time.monotonic()
    done = run(world, "--at-most", "2m")
    assert time.monotonic() - began < 15
    assert done.returncode == 2 and not world.slices
    assert "--at-most 2m is over" in done.stderr


def test_more_signals_end_a_deletion_that_hangs(world: World) -> None:
    world.cloud.rules.append(Rule("delete", times=99, script=DEAF))
    process = world.start("run", *ONE, *RUN, *wheel(world), "--poll", "10s")
    for count in range(3):
        wait_for(lambda: world.matching("delete" if count else "host.sh state"))  # noqa: B023
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    text = process.communicate(timeout=30)[0]
    assert process.returncode == 130 and world.slices
    assert DELETES in last_line(text)


def test_a_request_that_gcloud_sent_twice_is_ones_own(world: World) -> None:
    say = "echo 'ERROR: (gcloud.x) ALREADY_EXISTS: it already exists' >&2; exit 1"
    world.cloud.rules.append(Rule(" create ", script=say, effect=True))
    done = run(world)
    assert done.returncode == 0 and not world.slices and world.deleted == 1, done.stderr


def test_a_slice_that_comes_later_is_deleted(tmp_path: Path) -> None:
    def check(world: World, script: str) -> None:
        world.cloud.rules.append(Rule(" create ", script=script, effect=True, later=0.3))
        done = run(world, "--at-most", "1m")
        world.cloud.settle()
        assert done.returncode == 2 and not world.slices and world.deleted == 1, done.stderr

    together(tmp_path, check, ["exit 1", "kill -9 $$", HANG])


def test_a_slice_that_may_come_after_the_end_is_named(world: World) -> None:
    world.cloud.rules.append(Rule(" create ", script="exit 1", effect=True, later=3))
    done = run(world)
    world.cloud.settle()
    assert_said(world, done)


def test_another_ones_slice_stays(world: World) -> None:
    assert world.tpu("create", *ONE).returncode == 0
    world.slices["my-voice"]["labels"] = {"team": "others"}
    say = "echo 'ERROR: (gcloud.compute.tpus.{}.describe) NOT_FOUND: it' >&2; exit 1"
    for group in ("tpu-vm", "queued-resources"):
        world.cloud.rules.append(Rule(f"{group} describe", script=say.format(group)))
    done = run(world)
    assert done.returncode == 2 and "exists already" in done.stderr
    assert list(world.slices) == ["my-voice"]


@pytest.mark.parametrize("times", [1, 3, 99])
def test_a_deletion_without_effect_is_repeated(world: World, times: int) -> None:
    world.cloud.rules.append(Rule("delete", times=times, script="exit 0"))
    done = run(world)
    if times < 99:
        assert done.returncode == 0 and not world.slices, done.stderr
        assert "deleted my-voice" in done.stderr
    else:
        assert "deleted my-voice" not in done.stderr
        assert_said(world, done)


def test_a_voice_that_was_not_copied_is_not_reported(world: World) -> None:
    (world.path / "out" / "voice").mkdir()
    (world.path / "out" / "voice" / "voice.pth").write_text("an old voice")
    world.cloud.rules.append(Rule("storage cp --rec", script="exit 0"))
    done = run(world)
    assert done.returncode == 2 and "gcloud copied nothing" in done.stderr
    assert "the voice is in" not in done.stderr and not world.slices
    assert (world.path / "out" / "voice" / "voice.pth").read_text() == "an old voice"
    assert [path.name for path in (world.path / "out").iterdir()] == ["voice"]


def test_half_a_voice_is_not_reported(world: World) -> None:
    listing = '[{"name": "run/voice/voice.pth", "size": 8}, {"name": "run/voice/b", "size": 5}]'
    world.cloud.rules.append(Rule("objects list", script=f"echo '{listing}'"))
    done = run(world)
    assert done.returncode == 2 and "did not copy all of b" in done.stderr


def test_slices_of_other_commands_are_listed(world: World) -> None:
    assert world.tpu("create", *ONE).returncode == 0
    world.slices["other"] = world.slices.pop("my-voice")
    done = run(world)
    assert done.returncode == 0 and list(world.slices) == ["other"]
    assert "delete other --zone us-west4-a" in done.stderr


# --- many failures at once
# ----------------------------------------------------------------------------


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
