"""launch/gcp/deadline.sh: the hosts end by themselves, whatever hangs or can't be read."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from fake_world import LAUNCH, RUN, World

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
ONE = ("--type", "v5litepod-8")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def at_deadline(
    world: World,
    *words: str,
    worker: int = 0,
    values: dict[str, str] | None = None,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Runs deadline.sh on a host. values: the metadata; more: what `tpu` wrote into the script."""
    (world.path / "metadata").mkdir(exist_ok=True)
    values = {
        "rvc-jax-name": "my-voice",
        "rvc-jax-zone": "us-west4-a",
        "rvc-jax-deadline": str(int(time.time()) + 100),
        "agent-worker-number": str(worker),
    } | (values or {})
    for name, value in values.items():
        (world.path / "metadata" / name).write_text(value)
    environment = world.environment | {
        "PATH": f"{world.path / 'bin'}:/usr/bin:/bin",
        "RVC_JAX_SELF": str(world.path / "armed"),
        "RVC_JAX_HOMES": str(world.path / "hosts"),
        "RVC_JAX_LATER": "1",
        "RVC_JAX_LIMIT": "0.5",
        "RVC_JAX_RETRY": "0",
    }
    return subprocess.run(
        ["bash", str(LAUNCH / "deadline.sh"), *words],
        env=environment | more,
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )


def timers(world: World) -> list[int]:
    """Seconds of the timers that a host has set."""
    lines = [line for line in world.host_commands() if line.startswith("systemd-run")]
    assert all(line.endswith(f"{world.path / 'armed'} now") for line in lines)
    return [int(line.partition("--on-active=")[2].partition("s ")[0]) for line in lines]


def test_a_host_arms_its_deadline_as_it_starts(world: World) -> None:
    at_deadline(world)
    (seconds,) = timers(world)
    assert 95 <= seconds <= 100
    assert (world.path / "armed").read_bytes() == (LAUNCH / "deadline.sh").read_bytes()
    # The system's own shutdown is set before all else, and half an hour after the timer then.
    assert world.host_commands()[0] == "shutdown -h +60"
    assert world.host_commands()[-1] == "shutdown -h +31"
    at_deadline(world, values={"rvc-jax-deadline": "1000"})  # started anew, after it
    assert timers(world)[-1] == 1


@pytest.mark.parametrize(("asked", "expected"), [("7", range(6, 8)), ("5000", range(95, 101))])
def test_the_end_of_the_training_only_brings_it_forward(
    world: World, asked: str, expected: range
) -> None:
    at_deadline(world, "in", asked)
    assert timers(world)[0] in expected


def test_the_deadline_in_the_script_needs_no_network_and_no_right_clock(world: World) -> None:
    world.hosts_have(curl="sleep 1000")
    soon = str(int(time.time()) + 500)
    at_deadline(world, RVC_JAX_DEADLINE=soon, RVC_JAX_SECONDS="9000")
    assert timers(world)[-1] in range(495, 501)
    at_deadline(world, RVC_JAX_DEADLINE="99999999999", RVC_JAX_SECONDS="9000")
    assert timers(world)[-1] == 9000


def test_the_script_that_is_sent_has_the_deadline_in_it(world: World) -> None:
    world.environment["TMPDIR"] = str(world.path)
    copy = f"cp {world.path}/rvc-jax-*/deadline.sh {world.path}/sent; exit 1"
    world.goes_wrong("tpu-vm create", script=copy)
    world.tpu("create", *ONE, "--at-most", "2h")
    lines = (world.path / "sent").read_text().splitlines()
    values = dict(line.split("=") for line in lines[1:5])
    assert values["RVC_JAX_NAME"] == "my-voice" and values["RVC_JAX_ZONE"] == "us-west4-a"
    assert abs(int(values["RVC_JAX_DEADLINE"]) - time.time() - 7800) < 100
    assert abs(int(values["RVC_JAX_SECONDS"]) - 7800) < 100
    assert lines[0] == "#!/usr/bin/env bash" and lines[-1] == "esac"


@pytest.mark.parametrize("deadline", ["", "soon", "<html>404 Not Found</html>", "-5", "1e9"])
def test_an_unreadable_deadline_is_a_short_one(world: World, deadline: str) -> None:
    at_deadline(world, values={"rvc-jax-deadline": deadline})
    assert timers(world) == [1800]


def test_metadata_that_hangs_makes_a_short_deadline(world: World) -> None:
    world.hosts_have(curl="sleep 1000")
    at_deadline(world)
    assert timers(world) == [1800]


def test_without_a_timer_the_host_shuts_down(world: World) -> None:
    world.hosts_have(**{"systemd-run": "exit 1"})
    at_deadline(world)
    assert world.host_commands()[-1] == "shutdown -h +2"
    world.hosts_have(**{"systemd-run": "sleep 1000"})
    at_deadline(world)
    assert world.host_commands()[-1] == "shutdown -h +2"
    (world.path / "host-commands").unlink()
    only_now = (
        'case "$2" in now) echo "shutdown $*" >>"$FAKE_CLOUD/host-commands";; *) exit 1; esac'
    )
    world.hosts_have(shutdown=only_now)
    at_deadline(world)
    assert world.host_commands()[-1] == "shutdown -h now"


@pytest.mark.parametrize(("kind", "worker"), [("on-demand", 0), ("spot", 0), ("spot", 1)])
def test_at_the_deadline_the_host_saves_deletes_and_switches_off(
    world: World, kind: str, worker: int
) -> None:
    world.trains(60)
    assert world.tpu("create", *ONE, "--kind", kind).returncode == 0
    assert world.tpu("setup").returncode == 0
    assert world.tpu("train", *RUN).returncode == 0
    at_deadline(world, "now", worker=worker)
    assert (world.path / "saved").exists()
    assert world.slices == {} and world.deleted == 1
    assert world.host_commands()[0] == "shutdown -h +30"
    assert world.host_commands()[-1] == "shutdown -h now"


@pytest.mark.parametrize("what", ["gcloud", "curl"])
def test_a_call_that_hangs_does_not_stop_the_shutdown(world: World, what: str) -> None:
    world.hosts_have(**{what: "trap '' TERM; while true; do sleep 1000; done"})
    at_deadline(world, "now", RVC_JAX_KILL="0.2")
    assert world.host_commands()[0] == "shutdown -h +30"
    assert world.host_commands()[-1] == "shutdown -h now"
